// Any bytes are either a manifest (or a safetensors file) or a BundleError.
#include <cstdlib>

#include "linglos/error.hpp"
#include "manifest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto manifest = linglos::detail::parse_manifest(data, size, "fuzz");
    linglos::detail::check_preprocessing(manifest.preprocessing);  // what was accepted is within limits
    if (manifest.graphs.empty()) std::abort();
  } catch (const linglos::BundleError&) {
  }
  try {
    for (const auto& tensor : linglos::detail::parse_safetensors(data, size, "fuzz"))
      if (tensor.data < data || tensor.bytes > size || tensor.data + tensor.bytes > data + size) std::abort();
  } catch (const linglos::BundleError&) {
  }
  return 0;
}
