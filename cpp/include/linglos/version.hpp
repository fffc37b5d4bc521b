#pragma once

#define LINGLOS_VERSION "0.1.0"
