// Pixels to model input, bit for bit as linglos_deploy.preprocessing (Pillow's resize included).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "linglos/error.hpp"
#include "linglos/export.h"
#include "linglos/manifest.hpp"

namespace linglos {

/// How the bytes of a frame stand for pixels; nv12 and yuyv have U and V once for two pixels (nv12: a square of four).
enum class PixelFormat { rgb, bgr, grey, rgba, bgra, nv12, yuyv };

/// By how much an image is turned before it is used.
enum class Rotation { none, clockwise_90, half_turn, clockwise_270 };

/// Which standard says how YUV and RGB belong together.
enum class YuvMatrix { bt601, bt709 };

/// Limited: Y from 16 to 235, U and V from 16 to 240.
enum class YuvRange { limited, full };

/// A part of a frame, in its pixels; all zero means the whole.
struct Region {
  int x = 0;
  int y = 0;
  int width = 0;
  int height = 0;
};

/// A frame that somebody else owns, and what of it is the image: the region, turned by `rotation`.
///
/// Every value of it becomes RGB as linglos_deploy/images/frames.py says, to the bit.
struct ImageView {
  const std::uint8_t* data = nullptr;  ///< Rows of pixels; of nv12, of Y.
  int width = 0;                       ///< Of the frame, in pixels.
  int height = 0;
  std::ptrdiff_t stride = 0;  ///< Bytes from one row to the next; 0 means nothing between them.
  PixelFormat format = PixelFormat::rgb;
  Region region = {};
  Rotation rotation = Rotation::none;
  const std::uint8_t* chroma = nullptr;  ///< nv12: rows of U and V; null if they follow the rows of Y.
  std::ptrdiff_t chroma_stride = 0;      ///< Bytes from one of these to the next; 0 means that of Y, rounded up to even.
  YuvMatrix matrix = YuvMatrix::bt601;
  YuvRange range = YuvRange::limited;
};

/// Resizes, crops and normalizes. Holds scratch memory that grows to the largest image seen, so one thread at a time.
class LINGLOS_API Preprocessor {
 public:
  /// Throws UsageError if the description makes no sense.
  explicit Preprocessor(const Preprocessing& spec);
  ~Preprocessor();
  Preprocessor(Preprocessor&&) noexcept;
  Preprocessor& operator=(Preprocessor&&) noexcept;

  /// Number of values of one result: 3 * height * width.
  std::size_t size() const noexcept;

  /// Writes the resized and cropped image, uint8 H x W x 3 in RGB order.
  void pixels(const ImageView& image, std::uint8_t* out);

  /// Writes model input, float32 3 x H x W.
  void tensor(const ImageView& image, float* out);

  /// Normalizes pixels as written by pixels(): uint8 H x W x 3 to float32 3 x H x W.
  void normalize(const std::uint8_t* pixels, float* out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linglos
