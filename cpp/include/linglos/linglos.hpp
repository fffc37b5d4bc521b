// The whole C++ API.
#pragma once

#include "linglos/bundle.hpp"
#include "linglos/error.hpp"
#include "linglos/manifest.hpp"
#include "linglos/preprocess.hpp"
#include "linglos/result.hpp"
#include "linglos/session.hpp"
#include "linglos/version.hpp"
