// JSON to values, trusting nothing: every type is checked and every size has a limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "linglos/manifest.hpp"

namespace linglos::detail {

constexpr const char* kSchema = "linglos.bundle/1";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kManifestDigest = "manifest.sha256";
constexpr std::uint64_t kMaxManifestBytes = 16U << 20;
constexpr std::size_t kMaxFiles = 10000;
constexpr std::int64_t kMaxSide = 16384;           // of the model input
constexpr std::int64_t kMaxDimension = 1 << 30;    // of any tensor
constexpr std::uint64_t kMaxGoldenBytes = 4ULL << 30;
constexpr std::int64_t kMaxGoldenCount = 10000;

/// Parses manifest.json. Throws BundleError; `shown` is what messages call it.
Manifest parse_manifest(const std::uint8_t* data, std::size_t size, const std::string& shown);

/// Throws UsageError unless the description makes sense and its sizes are within limits.
void check_preprocessing(const Preprocessing& spec);

/// Height and width that the resized image must cover: floor(input / crop_pct).
struct Size {
  std::int64_t height;
  std::int64_t width;
};
Size cover_size(const Preprocessing& spec);

/// A tensor of a safetensors file: where its bytes lie.
struct StoredTensor {
  std::string name;
  std::string dtype;  // safetensors' names: U8, F32, ...
  std::vector<std::int64_t> shape;
  const std::uint8_t* data;
  std::size_t bytes;
};

/// Lists the tensors of a safetensors file held in memory; the pointers point into `data`.
///
/// Format: https://github.com/huggingface/safetensors#format. Throws BundleError.
std::vector<StoredTensor> parse_safetensors(const std::uint8_t* data, std::size_t size, const std::string& shown);

}  // namespace linglos::detail
