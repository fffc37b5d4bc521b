#pragma once

#include "backend.hpp"
#include "pool.hpp"

namespace linglos::detail {

/// Replays the golden images through preprocessing, engine and both.
SelfTest replay_golden(const Bundle& bundle, Pool& pool, const Choice& choice);

}  // namespace linglos::detail
