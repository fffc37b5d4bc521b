// Compiled with -ffp-contract=off: a fused multiply-add would round differently from Python.
#include "linglos/preprocess.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "frame.hpp"
#include "guard.hpp"
#include "resize.hpp"

namespace linglos {
namespace detail {
namespace {

constexpr int kChannels = 3;

void check_output(const void* out) {
  if (out == nullptr) throw UsageError("There is nowhere to write to: found a null pointer.");
}

}  // namespace

Size resized_shape(std::int64_t height, std::int64_t width, Size cover) {
  if (height * cover.width <= width * cover.height)
    return {cover.height, std::max(cover.width, width * cover.height / height)};
  return {std::max(cover.height, height * cover.width / width), cover.width};
}

std::int64_t crop_offset(std::int64_t size, std::int64_t crop) {
  const std::int64_t half = (size - crop) / 2;
  return (size - crop + half % 2) / 2;
}

void Resizer::run(const Frame& image, Size resized, Size crop, Interpolation filter, std::uint8_t* out) {
  const std::int64_t top = crop_offset(resized.height, crop.height);
  const std::int64_t left = crop_offset(resized.width, crop.width);
  const bool across = resized.width != image.width();  // Pillow leaves a pass out when the size does not change
  const bool down = resized.height != image.height();
  const auto row_bytes = static_cast<std::size_t>(crop.width) * kChannels;

  std::int64_t first_row = top;
  std::int64_t row_count = crop.height;
  if (down) {
    vertical_.prepare(image.height(), resized.height, top, crop.height, filter);
    const auto& windows = vertical_.windows;
    first_row = windows.front().begin;  // both ends of the windows grow with the output row
    row_count = windows.back().begin + windows.back().size - first_row;
    rows_.resize(static_cast<std::size_t>(row_count) * row_bytes);
  }
  std::uint8_t* rows = down ? rows_.data() : out;
  if (across) horizontal_.prepare(image.width(), resized.width, left, crop.width, filter);
  const Kernels& kernels = current_kernels();
  for (std::int64_t y = 0; y < row_count; y += kRowsAtOnce) {
    const auto count = static_cast<std::size_t>(std::min<std::int64_t>(kRowsAtOnce, row_count - y));
    const std::uint8_t* sources[kRowsAtOnce];
    std::uint8_t* targets[kRowsAtOnce];
    for (std::size_t i = 0; i < count; ++i) {
      sources[i] = image.row(first_row + y + static_cast<std::int64_t>(i), lines_[i]);
      targets[i] = rows + (static_cast<std::size_t>(y) + i) * row_bytes;
    }
    if (across)
      kernels.across(sources, count, image.width(), horizontal_, targets);
    else
      for (std::size_t i = 0; i < count; ++i) std::memcpy(targets[i], sources[i] + left * kChannels, row_bytes);
  }
  if (!down) return;

  sums_.resize(row_bytes);
  for (std::int64_t y = 0; y < crop.height; ++y) {
    const auto window = static_cast<std::size_t>(y);
    const std::uint8_t* first = rows + static_cast<std::size_t>(vertical_.windows[window].begin - first_row) * row_bytes;
    kernels.down(first, row_bytes, vertical_, window, sums_.data(), out + window * row_bytes);
  }
}

}  // namespace detail

struct Preprocessor::Impl {
  Preprocessing spec;
  detail::Size cover;
  detail::Frame frame;
  detail::Resizer resizer;
  std::vector<std::uint8_t> pixels;
  float normalized[3][256];  // (pixel - offset) / scale for every pixel value: the same bits, without the division

  explicit Impl(const Preprocessing& given) : spec(given), cover(detail::cover_size(given)) {
    for (int c = 0; c < 3; ++c) {
      const auto offset = static_cast<float>(spec.scale * spec.mean[c]);
      const auto scale = static_cast<float>(spec.scale * spec.std_dev[c]);
      for (int value = 0; value < 256; ++value) {
        const float difference = static_cast<float>(value) - offset;
        normalized[c][value] = difference / scale;
      }
    }
  }

  std::size_t plane() const { return static_cast<std::size_t>(spec.height) * static_cast<std::size_t>(spec.width); }

  /// Resizes and crops; true if the channels are blue, green, red.
  bool resize(const ImageView& image, std::uint8_t* out) {
    frame.open(image);
    const detail::Size resized = detail::resized_shape(frame.height(), frame.width(), cover);
    resizer.run(frame, resized, {spec.height, spec.width}, spec.interpolation, out);
    return frame.bgr();
  }

  void normalize(const std::uint8_t* from, float* out, bool bgr) const {
    const std::size_t count = plane();
    for (int c = 0; c < 3; ++c) {
      const float* table = normalized[c];
      const std::uint8_t* p = from + (bgr ? 2 - c : c);
      float* to = out + static_cast<std::size_t>(c) * count;
      for (std::size_t i = 0; i < count; ++i) to[i] = table[p[3 * i]];
    }
  }
};

Preprocessor::Preprocessor(const Preprocessing& spec) {
  detail::only_errors([&] {
    detail::check_preprocessing(spec);
    impl_ = std::make_unique<Impl>(spec);
  });
}

Preprocessor::~Preprocessor() = default;
Preprocessor::Preprocessor(Preprocessor&&) noexcept = default;
Preprocessor& Preprocessor::operator=(Preprocessor&&) noexcept = default;

std::size_t Preprocessor::size() const noexcept { return impl_ ? 3 * impl_->plane() : 0; }

void Preprocessor::pixels(const ImageView& image, std::uint8_t* out) {
  detail::only_errors([&] {
    detail::check_output(out);
    if (detail::alive(impl_, "preprocessor").resize(image, out))
      for (std::size_t i = 0; i < size(); i += 3) std::swap(out[i], out[i + 2]);
  });
}

void Preprocessor::tensor(const ImageView& image, float* out) {
  detail::only_errors([&] {
    detail::check_output(out);
    Impl& impl = detail::alive(impl_, "preprocessor");
    impl.pixels.resize(size());
    const bool bgr = impl.resize(image, impl.pixels.data());
    impl.normalize(impl.pixels.data(), out, bgr);
  });
}

void Preprocessor::normalize(const std::uint8_t* pixels, float* out) const {
  detail::only_errors([&] {
    if (pixels == nullptr) throw UsageError("There are no pixels: found a null pointer.");
    detail::check_output(out);
    detail::alive(impl_, "preprocessor").normalize(pixels, out, false);
  });
}

}  // namespace linglos
