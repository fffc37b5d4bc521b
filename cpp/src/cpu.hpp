// What this CPU can do, as far as the answers of an INT8 graph depend on it.
#pragma once

namespace linglos::detail {

/// Whether the usual INT8 kernels overflow silently here: x86 without VNNI or AMX sums products in 16 bits.
bool int8_saturates();

}  // namespace linglos::detail
