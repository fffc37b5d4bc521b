// Pillow's antialiased resize of 8-bit images, restricted to the part that a centre crop keeps.
//
// Source: Pillow, src/libImaging/Resample.c (ImagingResampleInner, precompute_coeffs, normalize_coeffs_8bpc): two
// passes, horizontal first, weights in 22-bit fixed point, each pass rounded to 8 bits. Written anew from that
// description; the bits are the contract.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "frame.hpp"
#include "linglos/manifest.hpp"
#include "linglos/preprocess.hpp"
#include "manifest.hpp"
#include "resample.hpp"

namespace linglos::detail {

/// Size of an image of `height` x `width` after it was scaled to just cover `cover` (Python: resized_shape).
Size resized_shape(std::int64_t height, std::int64_t width, Size cover);

/// Where a centre crop begins: half of what is too much, a half rounded to the even neighbour, as torchvision does
/// (Python: crop_offset).
std::int64_t crop_offset(std::int64_t size, std::int64_t crop);

/// Scratch memory that grows to the largest image seen.
class Resizer {
 public:
  /// Writes the crop of `crop` at the centre of `image` resized to `resized`, uint8 crop.height x crop.width x 3,
  /// channels in the order of the image's rows.
  void run(const Frame& image, Size resized, Size crop, Interpolation filter, std::uint8_t* out);

 private:
  Weights horizontal_, vertical_;
  std::vector<std::uint8_t> rows_;
  std::vector<std::int32_t> sums_;
  std::vector<std::uint8_t> lines_[kRowsAtOnce];
};

}  // namespace linglos::detail
