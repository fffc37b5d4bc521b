// The two inner loops of the resize, for any processor and for those with AVX2: the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "linglos/manifest.hpp"

namespace linglos::detail {

/// Weights of one axis for the outputs [first, first + count).
struct Weights {
  struct Window {
    std::int64_t begin;  // first input that contributes
    std::int64_t size;   // how many do
  };
  std::vector<Window> windows;
  std::vector<std::int32_t> values;  // `stride` per output, zeros behind the last; a multiple of four
  std::size_t stride = 0;

  /// Each weight k as k = high * 2^11 + low, both 16 bits, in pairs of neighbours: what one instruction multiplies.
  /// `stride / 2` per output.
  std::vector<std::int32_t> high_pairs, low_pairs;

  /// Recomputes unless the arguments are those of the last call.
  void prepare(std::int64_t in_size, std::int64_t out_size, std::int64_t first, std::int64_t count,
               Interpolation filter);

 private:
  std::int64_t key_[5] = {-1, -1, -1, -1, -1};
  std::vector<double> scratch_;
};

constexpr std::size_t kRowsAtOnce = 4;

/// What a processor does the work with.
struct Kernels {
  const char* name;

  /// `count` rows of `in_pixels` RGB pixels, one to kRowsAtOnce of them, each to a row of one pixel a window.
  void (*across)(const std::uint8_t* const* in, std::size_t count, std::int64_t in_pixels, const Weights& weights,
                 std::uint8_t* const* out);

  /// One row out of the rows of a window: `rows` is the first of them, each has `row_bytes` bytes. `sums` has room for
  /// as many numbers.
  void (*down)(const std::uint8_t* rows, std::size_t row_bytes, const Weights& weights, std::size_t window,
               std::int32_t* sums, std::uint8_t* out);
};

/// For any processor.
const Kernels& scalar_kernels() noexcept;

/// The fastest that this processor has.
const Kernels& best_kernels() noexcept;

/// What every resize of the process uses from now on; null for the best. For tests and measurements.
void use_kernels(const Kernels* kernels) noexcept;
const Kernels& current_kernels() noexcept;

}  // namespace linglos::detail
