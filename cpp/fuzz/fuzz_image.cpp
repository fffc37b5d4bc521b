// Any pixels of any size, under any description, become a tensor or a UsageError.
#include <cstring>
#include <vector>

#include "linglos/preprocess.hpp"

namespace {

struct Header {  // the first bytes of the input
  std::uint16_t height, width, input_height, input_width;
  std::uint8_t filter, format, padding, crop;
};

void preprocess(const Header& header, const std::uint8_t* data, std::size_t size) {
  linglos::Preprocessing spec{header.input_height % 129, header.input_width % 129,
                              header.filter % 2 == 0 ? linglos::Interpolation::bilinear : linglos::Interpolation::bicubic,
                              static_cast<double>(header.crop) / 250.0, {0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}};
  // exact size, so that AddressSanitizer sees a single byte too many
  const int width = header.width % 2049;
  const std::size_t stride = static_cast<std::size_t>(width) * 3 + header.padding;
  const int height = width == 0 ? 1 : static_cast<int>(header.height % (1 + (1U << 18) / stride));
  std::vector<std::uint8_t> pixels(stride * static_cast<std::size_t>(height));
  for (std::size_t i = 0; size != 0 && i < pixels.size(); ++i) pixels[i] = data[i % size];
  linglos::Preprocessor preprocessor(spec);
  std::vector<float> out(preprocessor.size());
  preprocessor.tensor({pixels.data(), width, height, static_cast<std::ptrdiff_t>(stride),
                       header.format % 2 == 0 ? linglos::PixelFormat::rgb : linglos::PixelFormat::bgr},
                      out.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Header header;
  if (size >= sizeof header) {
    std::memcpy(&header, data, sizeof header);
    try {
      preprocess(header, data + sizeof header, size - sizeof header);
    } catch (const linglos::UsageError&) {
    }
  }
  return 0;
}
