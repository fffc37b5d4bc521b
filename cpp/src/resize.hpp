// Pillow's antialiased resize of 8-bit images, restricted to the part that a centre crop keeps.
//
// Source: Pillow, src/libImaging/Resample.c (ImagingResampleInner, precompute_coeffs, normalize_coeffs_8bpc): two
// passes, horizontal first, weights in 22-bit fixed point, each pass rounded to 8 bits. Written anew from that
// description; the bits are the contract.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "linglos/manifest.hpp"
#include "linglos/preprocess.hpp"
#include "manifest.hpp"

namespace linglos::detail {

/// Size of an image of `height` x `width` after it was scaled to just cover `cover` (Python: resized_shape).
Size resized_shape(std::int64_t height, std::int64_t width, Size cover);

/// Where a centre crop begins: half of what is too much, a half rounded to the even neighbour, as torchvision does
/// (Python: crop_offset).
std::int64_t crop_offset(std::int64_t size, std::int64_t crop);

/// Weights of one axis for the outputs [first, first + count).
struct Weights {
  struct Window {
    std::int64_t begin;  // first input that contributes
    std::int64_t size;   // how many do
  };
  std::vector<Window> windows;
  std::vector<std::int32_t> values;  // `stride` per output
  std::size_t stride = 0;

  /// Recomputes unless the arguments are those of the last call.
  void prepare(std::int64_t in_size, std::int64_t out_size, std::int64_t first, std::int64_t count,
               Interpolation filter);

 private:
  std::int64_t key_[5] = {-1, -1, -1, -1, -1};
  std::vector<double> scratch_;
};

/// Scratch memory that grows to the largest image seen.
class Resizer {
 public:
  /// Writes the crop of `crop` at the centre of `image` resized to `resized`, uint8 crop.height x crop.width x 3,
  /// channels in the order of the image.
  void run(const ImageView& image, Size resized, Size crop, Interpolation filter, std::uint8_t* out);

 private:
  Weights horizontal_, vertical_;
  std::vector<std::uint8_t> rows_;
  std::vector<std::int32_t> sums_;
};

}  // namespace linglos::detail
