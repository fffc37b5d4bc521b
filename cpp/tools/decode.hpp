// Decoding for the tools; the library itself takes pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "linglos/preprocess.hpp"

namespace linglos::tools {

struct Image {
  std::vector<std::uint8_t> pixels;  // RGB
  int width = 0;
  int height = 0;

  ImageView view() const { return {pixels.data(), width, height}; }
};

/// Decodes PNG, JPEG, BMP or PNM as linglos_deploy.preprocessing.to_rgb does. JPEG may differ from Python's by a few
/// levels: the format leaves rounding to the decoder. Throws UsageError.
Image decode(const std::uint8_t* data, std::size_t size, const std::string& shown);

/// Reads and decodes a file. Throws UsageError or IoError.
Image decode_file(const std::string& path);

}  // namespace linglos::tools
