// Rows of RGB from frames as they come. The definition is linglos_deploy/images/frames.py; the bits are the contract.
#pragma once

#include <cstdint>
#include <vector>

#include "linglos/preprocess.hpp"

namespace linglos::detail {

/// An image inside a frame: the region, turned upright.
class Frame {
 public:
  /// Looks at another frame, whose bytes must stay. Scratch memory is kept from one to the next.
  ///
  /// Throws UsageError for a frame that cannot be: sizes, strides or a region that do not fit together.
  void open(const ImageView& image);

  std::int64_t width() const noexcept { return width_; }
  std::int64_t height() const noexcept { return height_; }

  /// True where rows are blue, green, red: the bytes of the frame itself.
  bool bgr() const noexcept { return bgr_; }

  /// Row `y` of the image, three bytes a pixel; in `scratch`, or in the frame itself.
  const std::uint8_t* row(std::int64_t y, std::vector<std::uint8_t>& scratch) const;

 private:
  /// Writes row `y` of the region as it lies in the frame.
  void convert(std::int64_t y, std::uint8_t* out) const;
  void convert_yuv(const std::uint8_t* luma, const std::uint8_t* chroma, int luma_step, std::uint8_t* out) const;

  ImageView image_;
  bool bgr_ = false;
  bool direct_ = false;  // rows are the frame's own bytes
  std::int64_t width_ = 0, height_ = 0;
  std::vector<std::uint8_t> upright_;  // of frames that are turned
  std::vector<std::uint8_t> line_;
};

}  // namespace linglos::detail
