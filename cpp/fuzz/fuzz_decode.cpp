// Any bytes are an image or a UsageError. Not run by the tests: it soon finds defects of stb_image's JPEG reader (an
// index one past the end of the Huffman code sizes, in Debian's 0.0~git20220908), which is why only the tools decode.
#include "decode.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    linglos::tools::decode(data, size, "fuzz");
  } catch (const linglos::UsageError&) {
  }
  return 0;
}
