// Compiled with -ffp-contract=off: a fused multiply-add would round differently from Python.
#include "resample.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace linglos::detail {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr int kChannels = 3;
constexpr int kLowBits = 11;  // of a weight, which has 23 and a sign: both parts fit into 16 bits

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic(double x) {  // Keys' kernel with a = -0.5, in Pillow's order of operations
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

std::uint8_t clip8(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

void across_scalar(const std::uint8_t* const* in, std::size_t count, std::int64_t, const Weights& weights,
                   std::uint8_t* const* out) {
  for (std::size_t row = 0; row < count; ++row) {
    std::uint8_t* to = out[row];
    for (std::size_t x = 0; x < weights.windows.size(); ++x) {
      const auto [begin, size] = weights.windows[x];
      const std::int32_t* k = weights.values.data() + x * weights.stride;
      const std::uint8_t* p = in[row] + begin * kChannels;
      std::int32_t sum0 = 1 << (kPrecisionBits - 1), sum1 = sum0, sum2 = sum0;
      for (std::int64_t i = 0; i < size; ++i, p += kChannels) {
        sum0 += p[0] * k[i];
        sum1 += p[1] * k[i];
        sum2 += p[2] * k[i];
      }
      to[0] = clip8(sum0);
      to[1] = clip8(sum1);
      to[2] = clip8(sum2);
      to += kChannels;
    }
  }
}

/// The columns from `begin` on.
void down_from(std::size_t begin, const std::uint8_t* rows, std::size_t row_bytes, const Weights& weights,
               std::size_t window, std::int32_t* sums, std::uint8_t* out) {
  const std::int32_t* k = weights.values.data() + window * weights.stride;
  const std::int64_t size = weights.windows[window].size;
  std::fill(sums + begin, sums + row_bytes, 1 << (kPrecisionBits - 1));
  for (std::int64_t i = 0; i < size; ++i) {
    const std::uint8_t* source = rows + static_cast<std::size_t>(i) * row_bytes;
    const std::int32_t weight = k[i];
    for (std::size_t x = begin; x < row_bytes; ++x) sums[x] += source[x] * weight;
  }
  for (std::size_t x = begin; x < row_bytes; ++x) out[x] = clip8(sums[x]);
}

void down_scalar(const std::uint8_t* rows, std::size_t row_bytes, const Weights& weights, std::size_t window,
                 std::int32_t* sums, std::uint8_t* out) {
  down_from(0, rows, row_bytes, weights, window, sums, out);
}

constexpr Kernels kScalar = {"scalar", across_scalar, down_scalar};

#if defined(__x86_64__)
#define LINGLOS_AVX2 __attribute__((target("avx2")))

/// Sums of the high and of the low halves of products to one sum; wraps as the sum of the whole products does.
LINGLOS_AVX2 inline __m256i joined(__m256i high, __m256i low) {
  return _mm256_add_epi32(_mm256_slli_epi32(high, kLowBits), low);
}

/// One pair of weights for each channel in the lower half, the next pair in the upper.
LINGLOS_AVX2 inline __m256i two_pairs(const std::int32_t* pairs) {
  const __m128i both = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pairs));
  return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(both), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

template <std::size_t Rows>
LINGLOS_AVX2 void across_avx2_rows(const std::uint8_t* const* in, std::int64_t in_pixels, const Weights& weights,
                                   std::uint8_t* const* out) {
  // four pixels of three bytes: the first two to the lower half, the others to the upper; neighbours side by side
  const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m128i half = _mm_set1_epi32(1 << (kPrecisionBits - 1));
  const std::int64_t row_bytes = in_pixels * kChannels;
  const std::size_t stride = weights.stride / 2;
  for (std::size_t x = 0; x < weights.windows.size(); ++x) {
    const auto [begin, size] = weights.windows[x];
    const std::int32_t* high_pairs = weights.high_pairs.data() + x * stride;
    const std::int32_t* low_pairs = weights.low_pairs.data() + x * stride;
    __m256i high[Rows], low[Rows];
    for (std::size_t row = 0; row < Rows; ++row) high[row] = low[row] = _mm256_setzero_si256();
    for (std::int64_t i = 0; i < size; i += 4) {
      const __m256i k_high = two_pairs(high_pairs + i / 2), k_low = two_pairs(low_pairs + i / 2);
      const std::int64_t offset = (begin + i) * kChannels;
      const bool inside = offset + 16 <= row_bytes;
      for (std::size_t row = 0; row < Rows; ++row) {
        __m128i loaded;
        if (inside) {
          loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[row] + offset));
        } else {  // nothing behind the row is read; weights behind the window are 0
          std::uint8_t rest[16] = {};
          std::memcpy(rest, in[row] + offset, static_cast<std::size_t>(row_bytes - offset));
          loaded = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rest));
        }
        const __m256i pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(loaded), pairs);
        high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(pixels, k_high));
        low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(pixels, k_low));
      }
    }
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m256i sum = joined(high[row], low[row]);
      __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
      both = _mm_srai_epi32(_mm_add_epi32(both, half), kPrecisionBits);
      both = _mm_packus_epi16(_mm_packs_epi32(both, both), both);
      const int bytes = _mm_cvtsi128_si32(both);
      std::memcpy(out[row] + x * kChannels, &bytes, kChannels);
    }
  }
}

LINGLOS_AVX2 void across_avx2(const std::uint8_t* const* in, std::size_t count, std::int64_t in_pixels,
                              const Weights& weights, std::uint8_t* const* out) {
  if (count == kRowsAtOnce) return across_avx2_rows<kRowsAtOnce>(in, in_pixels, weights, out);
  for (std::size_t row = 0; row < count; ++row) across_avx2_rows<1>(in + row, in_pixels, weights, out + row);
}

LINGLOS_AVX2 void down_avx2(const std::uint8_t* rows, std::size_t row_bytes, const Weights& weights,
                            std::size_t window, std::int32_t* sums, std::uint8_t* out) {
  const std::int64_t size = weights.windows[window].size;
  const std::int32_t* high_pairs = weights.high_pairs.data() + window * weights.stride / 2;
  const std::int32_t* low_pairs = weights.low_pairs.data() + window * weights.stride / 2;
  const __m256i half = _mm256_set1_epi32(1 << (kPrecisionBits - 1));
  std::size_t x = 0;
  for (; x + 32 <= row_bytes; x += 32) {
    __m256i high[4], low[4];
    for (int part = 0; part < 4; ++part) high[part] = low[part] = _mm256_setzero_si256();
    for (std::int64_t i = 0; i < size; i += 2) {
      const std::uint8_t* first = rows + static_cast<std::size_t>(i) * row_bytes + x;
      const std::uint8_t* second = i + 1 < size ? first + row_bytes : first;  // its weight is 0 then
      const __m256i k_high = _mm256_set1_epi32(high_pairs[i / 2]), k_low = _mm256_set1_epi32(low_pairs[i / 2]);
      for (int block = 0; block < 2; ++block) {
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first + 16 * block));
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second + 16 * block));
        const __m256i pairs[2] = {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)),
                                  _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b))};
        for (int part = 0; part < 2; ++part) {
          const int at = 2 * block + part;
          high[at] = _mm256_add_epi32(high[at], _mm256_madd_epi16(pairs[part], k_high));
          low[at] = _mm256_add_epi32(low[at], _mm256_madd_epi16(pairs[part], k_low));
        }
      }
    }
    for (int part = 0; part < 4; ++part)
      high[part] = _mm256_srai_epi32(_mm256_add_epi32(joined(high[part], low[part]), half), kPrecisionBits);
    // packing works in halves of a register: put its results in order again
    const __m256i words0 = _mm256_packs_epi32(high[0], high[1]), words1 = _mm256_packs_epi32(high[2], high[3]);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words0, words1),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), bytes);
  }
  down_from(x, rows, row_bytes, weights, window, sums, out);
}

constexpr Kernels kAvx2 = {"AVX2", across_avx2, down_avx2};
#endif

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

void Weights::prepare(std::int64_t in_size, std::int64_t out_size, std::int64_t first, std::int64_t count,
                      Interpolation filter) {
  const std::int64_t key[5] = {in_size, out_size, first, count, static_cast<std::int64_t>(filter)};
  if (std::equal(key, key + 5, key_)) return;
  key_[0] = -1;  // until all is done: a failed allocation must not leave a valid key

  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = (filter == Interpolation::bilinear ? 1.0 : 2.0) * filter_scale;
  const double step = 1.0 / filter_scale;
  stride = (static_cast<std::size_t>(std::ceil(support)) * 2 + 1 + 3) / 4 * 4;
  windows.resize(static_cast<std::size_t>(count));
  values.assign(windows.size() * stride, 0);
  high_pairs.resize(values.size() / 2);
  low_pairs.resize(values.size() / 2);
  scratch_.resize(stride);

  for (std::int64_t i = 0; i < count; ++i) {
    const double center = (static_cast<double>(first + i) + 0.5) * scale;
    const auto begin = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const auto end = std::min(static_cast<std::int64_t>(center + support + 0.5), in_size);
    double total = 0.0;
    for (std::int64_t j = begin; j < end; ++j) {
      const double x = (static_cast<double>(j) - center + 0.5) * step;
      const double weight = filter == Interpolation::bilinear ? bilinear(x) : bicubic(x);
      scratch_[static_cast<std::size_t>(j - begin)] = weight;
      total += weight;
    }
    std::int32_t* out = values.data() + static_cast<std::size_t>(i) * stride;
    for (std::int64_t j = 0; j < end - begin; ++j) {
      double weight = scratch_[static_cast<std::size_t>(j)];
      if (total != 0.0) weight /= total;
      const double rounding = weight < 0 ? -0.5 : 0.5;
      out[j] = static_cast<std::int32_t>(rounding + weight * (1 << kPrecisionBits));
    }
    windows[static_cast<std::size_t>(i)] = {begin, end - begin};
  }
  constexpr std::int32_t low_mask = (1 << kLowBits) - 1;
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const auto pair = [](std::int32_t even, std::int32_t odd) {
      return static_cast<std::int32_t>((static_cast<std::uint32_t>(odd) << 16) |
                                       (static_cast<std::uint32_t>(even) & 0xffffU));
    };
    high_pairs[i / 2] = pair(values[i] >> kLowBits, values[i + 1] >> kLowBits);
    low_pairs[i / 2] = pair(values[i] & low_mask, values[i + 1] & low_mask);
  }
  std::copy(key, key + 5, key_);
}

const Kernels& scalar_kernels() noexcept { return kScalar; }

const Kernels& best_kernels() noexcept {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) return kAvx2;
#endif
  return kScalar;
}

void use_kernels(const Kernels* kernels) noexcept { chosen = kernels; }

const Kernels& current_kernels() noexcept {
  const Kernels* forced = chosen;
  return forced != nullptr ? *forced : best_kernels();
}

}  // namespace linglos::detail
