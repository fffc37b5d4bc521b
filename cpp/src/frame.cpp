#include "frame.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "linglos/error.hpp"

namespace linglos::detail {
namespace {

constexpr int kMaxSide = 1 << 24;

/// Bytes of a pixel, of the formats whose pixels have bytes of their own.
int pixel_bytes(PixelFormat format) {
  switch (format) {
    case PixelFormat::grey: return 1;
    case PixelFormat::rgba:
    case PixelFormat::bgra: return 4;
    default: return 3;
  }
}

std::ptrdiff_t row_bytes(const ImageView& image) {
  const std::ptrdiff_t pairs = (std::ptrdiff_t{image.width} + 1) / 2;
  if (image.format == PixelFormat::nv12) return image.width;
  if (image.format == PixelFormat::yuyv) return 4 * pairs;
  return std::ptrdiff_t{image.width} * pixel_bytes(image.format);
}

std::string pixels_of(int width, int height) { return std::to_string(width) + " x " + std::to_string(height); }

void check_stride(const char* name, std::ptrdiff_t stride, std::ptrdiff_t smallest, const char* unit) {
  if (stride < smallest)
    throw UsageError(std::string(name) + " of an image must be at least " + unit + " bytes, here " +
                     std::to_string(smallest) + ", found " + std::to_string(stride) + ".");
}

/// What the frame says, with everything it leaves out filled in.
ImageView complete(const ImageView& given) {
  ImageView image = given;
  if (image.data == nullptr || image.width < 1 || image.height < 1)
    throw UsageError("An image must have pixels, found " + pixels_of(image.width, image.height) + ".");
  if (image.width > kMaxSide || image.height > kMaxSide)
    throw UsageError("An image must have at most 16777216 pixels a side.");
  if (image.format < PixelFormat::rgb || image.format > PixelFormat::yuyv)
    throw UsageError("An image must have a pixel format of this library, found number " +
                     std::to_string(static_cast<int>(image.format)) + ".");
  if (image.rotation < Rotation::none || image.rotation > Rotation::clockwise_270)
    throw UsageError("An image is turned by 0, 90, 180 or 270 degrees.");
  if (image.matrix < YuvMatrix::bt601 || image.matrix > YuvMatrix::bt709 || image.range < YuvRange::limited ||
      image.range > YuvRange::full)
    throw UsageError("An image's YUV must be of BT.601 or BT.709, of limited or full range.");
  const std::ptrdiff_t smallest = row_bytes(image);
  if (image.stride == 0) image.stride = smallest;
  check_stride("The stride", image.stride, smallest, "one row of");
  if (image.format == PixelFormat::nv12) {
    if (image.chroma_stride == 0) image.chroma_stride = image.stride + image.stride % 2;
    check_stride("The chroma stride", image.chroma_stride, (smallest + 1) / 2 * 2, "one row of");
    if (image.chroma == nullptr) image.chroma = image.data + image.stride * image.height;
  }
  Region& region = image.region;
  if (region.width == 0 && region.height == 0 && region.x == 0 && region.y == 0)
    region = {0, 0, image.width, image.height};
  const bool inside = region.x >= 0 && region.y >= 0 && region.width > 0 && region.height > 0 &&
                      region.width <= image.width && region.height <= image.height &&
                      region.x <= image.width - region.width && region.y <= image.height - region.height;
  if (!inside)
    throw UsageError("The region of an image must lie inside it: found " + pixels_of(region.width, region.height) +
                     " at " + std::to_string(region.x) + ", " + std::to_string(region.y) + ", expected inside " +
                     pixels_of(image.width, image.height) + ".");
  return image;
}

/// Factors of Y, of V in red, of U and V in green, and of U in blue, times 2^16 (Python: yuv_factors).
struct YuvFactors {
  std::int32_t y, red_v, green_u, green_v, blue_u, black;
};

constexpr YuvFactors kYuv[2][2] = {{{76309, 104597, -25675, -53279, 132201, 16}, {65536, 91881, -22553, -46802, 116130, 0}},
                                   {{76309, 117489, -13975, -34925, 138438, 16}, {65536, 103206, -12276, -30679, 121609, 0}}};

std::uint8_t clip(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> 16, 0, 255)); }

}  // namespace

void Frame::open(const ImageView& image) {
  image_ = complete(image);
  bgr_ = image_.format == PixelFormat::bgr;
  direct_ = bgr_ || image_.format == PixelFormat::rgb;
  const Region& region = image_.region;
  const bool turned = image_.rotation != Rotation::none;
  const bool exchanged = image_.rotation == Rotation::clockwise_90 || image_.rotation == Rotation::clockwise_270;
  width_ = exchanged ? region.height : region.width;
  height_ = exchanged ? region.width : region.height;
  upright_.clear();
  if (!turned) return;

  const std::int64_t wide = region.width, high = region.height;
  upright_.resize(static_cast<std::size_t>(wide) * static_cast<std::size_t>(high) * 3);
  line_.resize(static_cast<std::size_t>(wide) * 3);
  // where the pixel at (x, y) of the region goes to, in pixels
  std::int64_t first = 0, along_x = 1, along_y = wide;
  if (image_.rotation == Rotation::clockwise_90) {
    first = high - 1, along_x = high, along_y = -1;
  } else if (image_.rotation == Rotation::half_turn) {
    first = wide * high - 1, along_x = -1, along_y = -wide;
  } else {
    first = (wide - 1) * high, along_x = -high, along_y = 1;
  }
  for (std::int64_t y = 0; y < high; ++y) {
    convert(y, line_.data());
    std::int64_t to = first + y * along_y;
    for (std::int64_t x = 0; x < wide; ++x, to += along_x)
      std::memcpy(upright_.data() + 3 * to, line_.data() + 3 * x, 3);
  }
}

const std::uint8_t* Frame::row(std::int64_t y, std::vector<std::uint8_t>& scratch) const {
  if (!upright_.empty()) return upright_.data() + y * width_ * 3;
  if (direct_) return image_.data + (image_.region.y + y) * image_.stride + std::ptrdiff_t{3} * image_.region.x;
  scratch.resize(static_cast<std::size_t>(width_) * 3);
  convert(y, scratch.data());
  return scratch.data();
}

void Frame::convert(std::int64_t y, std::uint8_t* out) const {
  const Region& region = image_.region;
  const std::int64_t line = region.y + y;
  const std::uint8_t* row = image_.data + line * image_.stride;
  const std::uint8_t* from = row + std::ptrdiff_t{region.x} * pixel_bytes(image_.format);
  switch (image_.format) {
    case PixelFormat::nv12: return convert_yuv(row, image_.chroma + line / 2 * image_.chroma_stride, 1, out);
    case PixelFormat::yuyv: return convert_yuv(row, row + 1, 2, out);
    case PixelFormat::grey:
      for (int x = 0; x < region.width; ++x) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = from[x];
      return;
    case PixelFormat::rgba:
      for (int x = 0; x < region.width; ++x) std::memcpy(out + 3 * x, from + 4 * x, 3);
      return;
    case PixelFormat::bgra:
      for (int x = 0; x < region.width; ++x) {
        out[3 * x] = from[4 * x + 2];
        out[3 * x + 1] = from[4 * x + 1];
        out[3 * x + 2] = from[4 * x];
      }
      return;
    case PixelFormat::rgb:
    case PixelFormat::bgr: std::memcpy(out, from, static_cast<std::size_t>(region.width) * 3); return;
  }
}

/// `luma_step` is 1 where U and V have a plane of their own, and 2 where they lie between the Y of a row.
void Frame::convert_yuv(const std::uint8_t* luma, const std::uint8_t* chroma, int luma_step, std::uint8_t* out) const {
  const YuvFactors& k = kYuv[static_cast<int>(image_.matrix)][static_cast<int>(image_.range)];
  const int begin = image_.region.x, end = begin + image_.region.width;
  const int between = luma_step;  // bytes from U to V of a pair
  for (int x = begin; x < end;) {
    const std::uint8_t* pair = chroma + std::ptrdiff_t{x / 2} * 2 * luma_step;
    const std::int32_t u = pair[0] - 128, v = pair[between] - 128;
    const std::int32_t red = k.red_v * v + 32768, green = k.green_u * u + k.green_v * v + 32768,
                       blue = k.blue_u * u + 32768;
    for (const int stop = std::min(end, x / 2 * 2 + 2); x < stop; ++x, out += 3) {
      const std::int32_t y = (luma[std::ptrdiff_t{x} * luma_step] - k.black) * k.y;
      out[0] = clip(y + red);
      out[1] = clip(y + green);
      out[2] = clip(y + blue);
    }
  }
}

}  // namespace linglos::detail
