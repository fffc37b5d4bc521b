// Pixels to model input, bit for bit as linglos_deploy.preprocessing (Pillow's resize included).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "linglos/error.hpp"
#include "linglos/export.h"
#include "linglos/manifest.hpp"

namespace linglos {

enum class PixelFormat { rgb, bgr };

/// An 8-bit image of three interleaved channels that somebody else owns.
struct ImageView {
  const std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;  ///< Bytes from one row to the next; 0 means 3 * width.
  PixelFormat format = PixelFormat::rgb;
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
