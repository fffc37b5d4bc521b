#include "decode.hpp"

#include <fstream>
#include <iterator>
#include <memory>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_PNM
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS (1 << 15)
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include <stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace linglos::tools {
namespace {

constexpr std::size_t kMaxFileBytes = 256U << 20;
constexpr std::int64_t kMaxPixels = 1 << 28;

struct Free {
  void operator()(void* memory) const { stbi_image_free(memory); }
};

}  // namespace

Image decode(const std::uint8_t* data, std::size_t size, const std::string& shown) {
  const auto fail = [&](const std::string& found) {
    throw UsageError("'" + shown + "' is not an image that can be decoded: " + found + ".");
  };
  if (size > kMaxFileBytes) fail("larger than 256 MiB");
  const int bytes = static_cast<int>(size);
  int width = 0, height = 0, channels = 0;
  if (stbi_info_from_memory(data, bytes, &width, &height, &channels) == 0) fail(stbi_failure_reason());
  if (width < 1 || height < 1 || std::int64_t{width} * height > kMaxPixels)
    fail(std::to_string(width) + " x " + std::to_string(height) + " pixels");
  Image image;
  image.width = width;
  image.height = height;
  const std::size_t count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);

  if (channels == 1 && stbi_is_16_bit_from_memory(data, bytes) != 0) {
    const std::unique_ptr<stbi_us, Free> wide(stbi_load_16_from_memory(data, bytes, &width, &height, &channels, 1));
    if (!wide) fail(stbi_failure_reason());
    image.pixels.resize(count * 3);
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] = static_cast<std::uint8_t>(wide.get()[i / 3] / 257);  // white stays white
    return image;
  }
  const std::unique_ptr<stbi_uc, Free> decoded(
      stbi_load_from_memory(data, bytes, &width, &height, &channels, 3));  // without alpha, as Pillow's convert
  if (!decoded) fail(stbi_failure_reason());
  if (width != image.width || height != image.height) fail("two sizes in one file");
  image.pixels.assign(decoded.get(), decoded.get() + count * 3);
  return image;
}

Image decode_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw IoError("'" + path + "' cannot be opened.");
  const std::vector<char> data((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  return decode(reinterpret_cast<const std::uint8_t*>(data.data()), data.size(), path);
}

}  // namespace linglos::tools
