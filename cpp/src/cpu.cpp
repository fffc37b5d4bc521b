#include "cpu.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace linglos::detail {

bool int8_saturates() {
#if defined(__x86_64__)
  // Intel 64 and IA-32 Software Developer's Manual, volume 2, CPUID, leaf 7. That the operating system saves the wide
  // registers is asked with the instruction sets that they belong to.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return true;
  const unsigned leaves = eax;
  if ((ecx & 1U << 11) && __builtin_cpu_supports("avx512f")) return false;  // AVX512_VNNI
  if ((edx & 1U << 25) && __builtin_cpu_supports("avx512f")) return false;  // AMX_INT8
  if (leaves >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1U << 4) &&
      __builtin_cpu_supports("avx2"))
    return false;  // AVX_VNNI
  return true;
#else
  return false;  // Arm's kernels widen instead
#endif
}

}  // namespace linglos::detail
