// Compiled with -ffp-contract=off: a fused multiply-add would round differently from Python.
#include "linglos/preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "guard.hpp"
#include "resize.hpp"

namespace linglos {
namespace detail {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr int kChannels = 3;

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

void check_output(const void* out) {
  if (out == nullptr) throw UsageError("There is nowhere to write to: found a null pointer.");
}

std::uint8_t clip8(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

/// Rows in, fewer columns out.
void resample_row(const std::uint8_t* in, const Weights& weights, std::uint8_t* out) {
  for (std::size_t x = 0; x < weights.windows.size(); ++x) {
    const auto [begin, size] = weights.windows[x];
    const std::int32_t* k = weights.values.data() + x * weights.stride;
    const std::uint8_t* p = in + begin * kChannels;
    std::int32_t sum0 = 1 << (kPrecisionBits - 1), sum1 = sum0, sum2 = sum0;
    for (std::int64_t i = 0; i < size; ++i, p += kChannels) {
      sum0 += p[0] * k[i];
      sum1 += p[1] * k[i];
      sum2 += p[2] * k[i];
    }
    out[0] = clip8(sum0);
    out[1] = clip8(sum1);
    out[2] = clip8(sum2);
    out += kChannels;
  }
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

void Weights::prepare(std::int64_t in_size, std::int64_t out_size, std::int64_t first, std::int64_t count,
                      Interpolation filter) {
  const std::int64_t key[5] = {in_size, out_size, first, count, static_cast<std::int64_t>(filter)};
  if (std::equal(key, key + 5, key_)) return;
  key_[0] = -1;  // until all is done: a failed allocation must not leave a valid key

  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  const double support = (filter == Interpolation::bilinear ? 1.0 : 2.0) * filter_scale;
  const double step = 1.0 / filter_scale;
  stride = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  windows.resize(static_cast<std::size_t>(count));
  values.resize(windows.size() * stride);
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
  std::copy(key, key + 5, key_);
}

void Resizer::run(const ImageView& image, Size resized, Size crop, Interpolation filter, std::uint8_t* out) {
  const std::ptrdiff_t stride = image.stride != 0 ? image.stride : std::ptrdiff_t{kChannels} * image.width;
  const std::int64_t top = crop_offset(resized.height, crop.height);
  const std::int64_t left = crop_offset(resized.width, crop.width);
  const bool across = resized.width != image.width;  // Pillow leaves a pass out when the size does not change
  const bool down = resized.height != image.height;
  const auto row_bytes = static_cast<std::size_t>(crop.width) * kChannels;

  std::int64_t first_row = top;
  std::int64_t row_count = crop.height;
  if (down) {
    vertical_.prepare(image.height, resized.height, top, crop.height, filter);
    const auto& windows = vertical_.windows;
    first_row = windows.front().begin;  // both ends of the windows grow with the output row
    row_count = windows.back().begin + windows.back().size - first_row;
    rows_.resize(static_cast<std::size_t>(row_count) * row_bytes);
  }
  std::uint8_t* rows = down ? rows_.data() : out;
  if (across) horizontal_.prepare(image.width, resized.width, left, crop.width, filter);
  for (std::int64_t y = 0; y < row_count; ++y) {
    const std::uint8_t* source = image.data + (first_row + y) * stride;
    std::uint8_t* target = rows + static_cast<std::size_t>(y) * row_bytes;
    if (across)
      resample_row(source, horizontal_, target);
    else
      std::memcpy(target, source + left * kChannels, row_bytes);
  }
  if (!down) return;

  sums_.resize(row_bytes);
  for (std::int64_t y = 0; y < crop.height; ++y) {
    const auto [begin, size] = vertical_.windows[static_cast<std::size_t>(y)];
    const std::int32_t* k = vertical_.values.data() + static_cast<std::size_t>(y) * vertical_.stride;
    std::fill(sums_.begin(), sums_.end(), 1 << (kPrecisionBits - 1));
    for (std::int64_t i = 0; i < size; ++i) {
      const std::uint8_t* source = rows + static_cast<std::size_t>(begin - first_row + i) * row_bytes;
      const std::int32_t weight = k[i];
      for (std::size_t x = 0; x < row_bytes; ++x) sums_[x] += source[x] * weight;
    }
    std::uint8_t* target = out + static_cast<std::size_t>(y) * row_bytes;
    for (std::size_t x = 0; x < row_bytes; ++x) target[x] = clip8(sums_[x]);
  }
}

}  // namespace detail

struct Preprocessor::Impl {
  Preprocessing spec;
  detail::Size cover;
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

  /// Resizes and crops; the channels stay in the order of the image.
  void resize(const ImageView& image, std::uint8_t* out) {
    if (image.data == nullptr || image.width < 1 || image.height < 1)
      throw UsageError("An image must have pixels, found " + std::to_string(image.width) + " x " +
                       std::to_string(image.height) + ".");
    if (image.width > (1 << 24) || image.height > (1 << 24))
      throw UsageError("An image must have at most 16777216 pixels a side.");
    if (image.stride != 0 && image.stride < std::ptrdiff_t{3} * image.width)
      throw UsageError("The stride of an image must be at least 3 * width bytes, found " +
                       std::to_string(image.stride) + ".");
    const detail::Size resized = detail::resized_shape(image.height, image.width, cover);
    resizer.run(image, resized, {spec.height, spec.width}, spec.interpolation, out);
  }

  void normalize(const std::uint8_t* from, float* out, int red) const {
    const std::size_t count = plane();
    for (int c = 0; c < 3; ++c) {
      const float* table = normalized[c];
      const std::uint8_t* p = from + (red == 0 ? c : 2 - c);
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
    detail::alive(impl_, "preprocessor").resize(image, out);
    if (image.format == PixelFormat::bgr)
      for (std::size_t i = 0; i < size(); i += 3) std::swap(out[i], out[i + 2]);
  });
}

void Preprocessor::tensor(const ImageView& image, float* out) {
  detail::only_errors([&] {
    detail::check_output(out);
    Impl& impl = detail::alive(impl_, "preprocessor");
    impl.pixels.resize(size());
    impl.resize(image, impl.pixels.data());
    impl.normalize(impl.pixels.data(), out, image.format == PixelFormat::bgr ? 2 : 0);
  });
}

void Preprocessor::normalize(const std::uint8_t* pixels, float* out) const {
  detail::only_errors([&] {
    if (pixels == nullptr) throw UsageError("There are no pixels: found a null pointer.");
    detail::check_output(out);
    detail::alive(impl_, "preprocessor").normalize(pixels, out, 0);
  });
}

}  // namespace linglos
