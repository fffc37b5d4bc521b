#include "selftest.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>

#include "files.hpp"
#include "manifest.hpp"

namespace linglos {
namespace detail {
namespace {

constexpr double kDefaultShare = 1e-5;  // of the largest value, where the manifest names no limit

/// The golden tensors by name, over the bytes of their file.
class Golden {
 public:
  Golden(const Bundle& bundle, const linglos::Golden& entry) : shown_(bundle.path() + "/" + entry.file) {
    if (bundle.manifest().files.at(entry.file).bytes > kMaxGoldenBytes)
      throw BundleError(in_quotes(shown_) + " is larger than a self-test accepts.");
    data_ = bundle.read(entry.file);
    for (auto& tensor : parse_safetensors(data_.data(), data_.size(), shown_)) tensors_[tensor.name] = tensor;
  }

  const StoredTensor& get(const std::string& name, const std::string& dtype) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw BundleError(in_quotes(shown_) + " has no tensor " + in_quotes(name) + ".");
    if (found->second.dtype != dtype)
      throw BundleError("Tensor " + in_quotes(name) + " of " + in_quotes(shown_) + " is not " + dtype + ".");
    return found->second;
  }

  const StoredTensor& get(const std::string& name, const std::string& dtype,
                          const std::vector<std::int64_t>& shape) const {
    const StoredTensor& tensor = get(name, dtype);
    if (tensor.shape != shape)
      throw BundleError("Tensor " + in_quotes(name) + " of " + in_quotes(shown_) + " has an unexpected shape.");
    return tensor;
  }

  std::vector<float> floats(const StoredTensor& tensor) const {  // copied: the file does not align its tensors
    std::vector<float> values(tensor.bytes / sizeof(float));
    std::memcpy(values.data(), tensor.data, tensor.bytes);
    return values;
  }

 private:
  std::string shown_;
  std::vector<std::uint8_t> data_;
  std::map<std::string, StoredTensor> tensors_;
};

template <typename T>
Check compare(const char* stage, const std::string& name, const T* found, const T* expected, std::size_t count,
              double share) {
  Check check{stage, name, false, 0.0, 0.0, 0, count};
  double largest = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    const double a = found[i];
    const double b = expected[i];
    largest = std::max(largest, std::fabs(b));
    if (std::memcmp(found + i, expected + i, sizeof(T)) == 0) continue;
    ++check.differing;
    const double difference = std::fabs(a - b);
    check.max_abs = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                           : std::max(check.max_abs, difference);
  }
  check.limit = share * largest;
  check.passed = share == 0.0 ? check.differing == 0 : check.max_abs <= check.limit;
  return check;
}

}  // namespace

SelfTest replay_golden(const Bundle& bundle, Pool& pool, const Choice& choice) {
  const Manifest& manifest = bundle.manifest();
  if (!manifest.golden || manifest.golden->count == 0)
    throw BundleError("The bundle " + in_quotes(bundle.path()) + " has no golden images to replay; export it again.");
  const Golden golden(bundle, *manifest.golden);
  const Preprocessing& spec = manifest.preprocessing;
  const auto count = static_cast<std::size_t>(manifest.golden->count);
  const auto images = manifest.golden->count;
  SelfTest report{false, count, {}};

  std::vector<ImageView> raw;
  for (std::size_t i = 0; i < count; ++i) {
    const StoredTensor& tensor = golden.get("pixels." + std::to_string(i), "U8");
    if (tensor.shape.size() != 3 || tensor.shape[2] != 3 || tensor.bytes == 0 || tensor.shape[0] > (1 << 24) ||
        tensor.shape[1] > (1 << 24))
      throw BundleError("Golden image " + std::to_string(i) + " is not H x W x 3.");
    raw.push_back({tensor.data, static_cast<int>(tensor.shape[1]), static_cast<int>(tensor.shape[0])});
  }
  const StoredTensor& golden_pixels = golden.get("pixels", "U8", {images, spec.height, spec.width, 3});
  const std::vector<float> golden_tensor =
      golden.floats(golden.get("image", "F32", {images, 3, spec.height, spec.width}));

  Preprocessor preprocessor(spec);
  std::vector<std::uint8_t> pixels(golden_pixels.bytes);
  std::vector<float> tensor(golden_tensor.size());
  for (std::size_t i = 0; i < count; ++i) {
    preprocessor.pixels(raw[i], pixels.data() + i * preprocessor.size());
    preprocessor.tensor(raw[i], tensor.data() + i * preprocessor.size());
  }
  report.checks.push_back(
      compare("preprocessing", "pixels", pixels.data(), golden_pixels.data, pixels.size(), 0.0));
  report.checks.push_back(
      compare("preprocessing", "image", tensor.data(), golden_tensor.data(), tensor.size(), 0.0));

  const auto limits = manifest.golden->max_abs;
  auto limit = limits.find(choice.file);
  if (limit == limits.end()) limit = limits.find(choice.source);
  const double share = limit == limits.end() ? kDefaultShare : limit->second;
  Outputs from_pixels, from_images;
  pool.run_pixels(golden_pixels.data, count, from_pixels);
  pool.run(raw.data(), count, from_images);
  for (const auto& [stage, outputs] : {std::pair{"engine", &from_pixels}, std::pair{"output", &from_images}})
    for (const Output& output : *outputs) {
      const auto expected = golden.floats(golden.get(choice.source + ":" + output.name, "F32", output.shape));
      report.checks.push_back(
          compare(stage, output.name, output.values.data(), expected.data(), expected.size(), share));
    }
  report.passed = std::all_of(report.checks.begin(), report.checks.end(), [](const Check& c) { return c.passed; });
  return report;
}

}  // namespace detail

std::string SelfTest::summary() const {
  std::string drifted;
  for (const Check& check : checks) {
    if (check.passed) continue;
    char text[160];
    std::snprintf(text, sizeof text, " %s: %zu of %zu values differ, by up to %.3g (accepted: %.3g);",
                  check.name.substr(0, 60).c_str(), check.differing, check.total, check.max_abs, check.limit);
    drifted += (drifted.empty() ? "" : " ") + check.stage + text;
  }
  const std::string subject = std::to_string(images) + " golden images";
  if (passed) return "passed: preprocessing and outputs of " + subject + " are reproduced";
  drifted.pop_back();
  return "FAILED on " + subject + ": " + drifted;
}

}  // namespace linglos
