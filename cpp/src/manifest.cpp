#include "manifest.hpp"

#include <cmath>

#include "files.hpp"
#include "json.hpp"
#include "linglos/error.hpp"

namespace linglos::detail {
namespace {

/// A JSON value with the path that leads to it, for messages.
class Node {
 public:
  Node(const Json& value, std::string path, const std::string& source)
      : value_(value), path_(std::move(path)), source_(source) {}

  [[noreturn]] void fail(const std::string& expected) const {
    throw BundleError(in_quotes(source_) + " cannot be read: '" + path_ + "' is " + value_.kind_name() + ", expected " +
                      expected + ". Use the version of linglos that made the bundle, or export again.");
  }

  Node at(const char* key) const {
    if (value_.kind != Json::Kind::object) fail("an object");
    const Json* found = value_.find(key);
    if (found == nullptr) throw BundleError(in_quotes(source_) + " has no field '" + join(key) + "'.");
    return Node(*found, join(key), source_);
  }

  bool has(const char* key) const { return value_.find(key) != nullptr; }
  bool is_null() const { return value_.kind == Json::Kind::null; }
  bool is_string() const { return value_.kind == Json::Kind::string; }

  const std::string& text(std::size_t limit = 4096) const {
    if (value_.kind != Json::Kind::string) fail("a string");
    if (value_.string.size() > limit) fail("a string of at most " + std::to_string(limit) + " bytes");
    return value_.string;
  }

  bool boolean() const {
    if (value_.kind != Json::Kind::boolean) fail("true or false");
    return value_.boolean;
  }

  double number() const {
    if (value_.kind != Json::Kind::number && value_.kind != Json::Kind::integer) fail("a number");
    return value_.number;
  }

  std::int64_t integer(std::int64_t low, std::int64_t high) const {
    const std::string expected = "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    if (value_.kind != Json::Kind::integer || value_.beyond_int64) fail(expected);
    if (value_.integer < low || value_.integer > high) fail(expected);
    return value_.integer;
  }

  template <typename Visit>  // visit(index, node)
  void each(std::size_t limit, Visit&& visit) const {
    if (value_.kind != Json::Kind::array) fail("an array");
    if (value_.items.size() > limit) fail("at most " + std::to_string(limit) + " entries");
    for (std::size_t i = 0; i < value_.items.size(); ++i)
      visit(i, Node(value_.items[i], path_ + "[" + std::to_string(i) + "]", source_));
  }

  template <typename Visit>  // visit(key, node)
  void members(std::size_t limit, Visit&& visit) const {
    if (value_.kind != Json::Kind::object) fail("an object");
    if (value_.items.size() > limit) fail("at most " + std::to_string(limit) + " entries");
    for (const auto& [key, place] : value_.places)
      visit(key, Node(value_.items[place], path_ + "." + key.substr(0, 80), source_));
  }

 private:
  std::string join(const char* key) const { return path_.empty() ? key : path_ + "." + key; }

  const Json& value_;
  std::string path_;
  const std::string& source_;
};

Json parse(const std::uint8_t* data, std::size_t size, const std::string& shown) {
  Json document;
  if (!parse_json(data, size, document)) throw BundleError(in_quotes(shown) + " is not JSON.");
  return document;
}

std::vector<std::string> strings(const Node& node, std::size_t limit) {
  std::vector<std::string> found;
  node.each(limit, [&](std::size_t, const Node& item) { found.push_back(item.text(1 << 16)); });
  return found;
}

std::map<std::string, std::string> string_map(const Node& node) {
  std::map<std::string, std::string> found;
  node.members(1000, [&](const std::string& key, const Node& item) { found[key] = item.text(1 << 16); });
  return found;
}

Preprocessing preprocessing(const Node& node, const std::string& shown) {
  Preprocessing spec;
  std::size_t dimensions = 0;
  node.at("input_size").each(2, [&](std::size_t i, const Node& item) {
    (i == 0 ? spec.height : spec.width) = static_cast<int>(item.integer(1, kMaxSide));
    ++dimensions;
  });
  if (dimensions != 2) node.at("input_size").fail("a height and a width");
  const std::string& filter = node.at("interpolation").text();
  if (filter != "bilinear" && filter != "bicubic") node.at("interpolation").fail("'bilinear' or 'bicubic'");
  spec.interpolation = filter == "bilinear" ? Interpolation::bilinear : Interpolation::bicubic;
  spec.crop_pct = node.at("crop_pct").number();
  if (node.has("scale")) spec.scale = node.at("scale").number();  // bundles made before had no such field
  for (const auto& [key, known] : {std::pair{"color", "rgb"}, std::pair{"layout", "nchw"}, std::pair{"fit", "cover"}})
    if (node.has(key) && node.at(key).text() != known)
      throw BundleError(in_quotes(shown) + " asks for " + key + " '" + node.at(key).text() + "', and this library knows '" +
                        known + "' only. Preprocess in Python, or export a model that takes RGB, channels first.");
  for (const auto& [key, values] : {std::pair{"mean", &spec.mean}, std::pair{"std", &spec.std_dev}}) {
    std::size_t count = 0;
    node.at(key).each(3, [&, to = values](std::size_t i, const Node& item) {
      (*to)[i] = item.number();
      ++count;
    });
    if (count != 3) node.at(key).fail("three numbers");
  }
  try {
    check_preprocessing(spec);
  } catch (const UsageError& error) {
    throw BundleError(in_quotes(shown) + ": " + error.what());
  }
  return spec;
}

std::vector<TensorSpec> tensors(const Node& node) {
  std::vector<TensorSpec> found;
  node.each(256, [&](std::size_t, const Node& item) {
    TensorSpec spec;
    spec.name = item.at("name").text();
    spec.dtype = item.at("dtype").text();
    item.at("shape").each(8, [&](std::size_t, const Node& dim) {
      spec.shape.push_back(dim.is_string() ? -1 : dim.integer(0, kMaxDimension));
    });
    found.push_back(std::move(spec));
  });
  return found;
}

template <typename Entry>
void common(const Node& node, Entry& entry) {
  entry.file = node.at("file").text();
  entry.precision = node.at("precision").text();
  const std::string& input = node.at("input").text();
  if (input != "tensor" && input != "pixels") node.at("input").fail("'tensor' or 'pixels'");
  entry.input = input == "tensor" ? InputKind::tensor : InputKind::pixels;
  entry.inputs = tensors(node.at("signature").at("inputs"));
  entry.outputs = tensors(node.at("signature").at("outputs"));
}

void check_references(const Manifest& manifest, const std::string& shown) {
  const auto listed = [&](const std::string& name) {
    if (manifest.files.count(name) == 0)
      throw BundleError(in_quotes(shown) + " refers to " + in_quotes(name) + " without listing it among its files.");
  };
  if (manifest.graphs.empty()) throw BundleError(in_quotes(shown) + " lists no graph.");
  for (const auto& graph : manifest.graphs) listed(graph.file);
  for (const auto& engine : manifest.engines) {
    listed(engine.file);
    listed(engine.source);
  }
  if (manifest.golden) listed(manifest.golden->file);
}

}  // namespace

Manifest parse_manifest(const std::uint8_t* data, std::size_t size, const std::string& shown) {
  const Json document = parse(data, size, shown);
  const Node root(document, "", shown);
  const std::string& schema = root.at("schema").text();
  if (schema != kSchema)
    throw BundleError(in_quotes(shown) + " is of another schema: found " + in_quotes(schema) + ", expected '" + kSchema +
                      "'. Use the version of linglos that made the bundle, or export again.");
  Manifest manifest;
  manifest.name = root.at("name").text();
  manifest.passed = root.at("passed").boolean();
  manifest.warnings = strings(root.at("warnings"), 1000);
  const std::string& weights = root.at("weights").text();
  manifest.weights = weights == "trained"  ? Weights::trained
                     : weights == "random" ? Weights::random
                                           : Weights::unknown;
  if (const Node node = root.at("synthetic_calibration"); !node.is_null())
    manifest.synthetic_calibration = node.boolean();
  manifest.preprocessing = preprocessing(root.at("preprocessing"), shown);
  manifest.labels = strings(root.at("labels"), 1 << 20);
  root.at("graphs").each(100, [&](std::size_t, const Node& node) {
    GraphEntry entry;
    common(node, entry);
    if (node.has("session_options")) entry.session_options = string_map(node.at("session_options"));
    if (node.has("saturating_session_options"))
      entry.saturating_session_options = string_map(node.at("saturating_session_options"));
    if (node.has("placement")) entry.placement = node.at("placement").text();
    if (node.has("runtimes")) entry.runtimes = strings(node.at("runtimes"), 100);
    if (node.has("machines")) entry.machines = strings(node.at("machines"), 100);
    manifest.graphs.push_back(std::move(entry));
  });
  root.at("engines").each(100, [&](std::size_t, const Node& node) {
    EngineEntry entry;
    common(node, entry);
    entry.backend = node.at("backend").text();
    entry.source = node.at("source").text();
    if (node.has("requirements")) entry.requirements = string_map(node.at("requirements"));
    manifest.engines.push_back(std::move(entry));
  });
  if (const Node node = root.at("golden"); !node.is_null()) {
    Golden golden;
    golden.file = node.at("file").text();
    golden.count = node.at("count").integer(0, kMaxGoldenCount);
    if (node.has("max_abs"))
      node.at("max_abs").members(1000, [&](const std::string& key, const Node& item) {
        golden.max_abs[key] = item.number();
      });
    manifest.golden = std::move(golden);
  }
  root.at("files").members(kMaxFiles, [&](const std::string& key, const Node& item) {
    manifest.files[key] = FileEntry{static_cast<std::uint64_t>(item.at("bytes").integer(0, INT64_MAX)),
                                    item.at("sha256").text()};
  });
  check_references(manifest, shown);
  return manifest;
}

void check_preprocessing(const Preprocessing& spec) {
  if (spec.height < 1 || spec.width < 1 || spec.height > kMaxSide || spec.width > kMaxSide)
    throw UsageError("The input size must be from 1 to " + std::to_string(kMaxSide) + " pixels, found " +
                     std::to_string(spec.height) + " x " + std::to_string(spec.width) + ".");
  if (!(spec.crop_pct > 0.0 && spec.crop_pct <= 1.0)) throw UsageError("crop_pct must be in (0, 1].");
  const Size cover = cover_size(spec);
  if (cover.height > 4 * kMaxSide || cover.width > 4 * kMaxSide)
    throw UsageError("crop_pct asks for a resized image of more than " + std::to_string(4 * kMaxSide) + " pixels.");
  for (int c = 0; c < 3; ++c)
    if (!std::isfinite(spec.mean[c]) || !std::isfinite(spec.std_dev[c]) || !(spec.std_dev[c] > 0.0))
      throw UsageError("mean and std must be finite, and std above 0.");
  if (!std::isfinite(spec.scale) || spec.scale < 1.0) throw UsageError("scale must be 1 or more.");
}

Size cover_size(const Preprocessing& spec) {
  const auto cover = [&](int side) {  // clamped before the conversion: a tiny crop_pct must not overflow
    return static_cast<std::int64_t>(std::min(std::floor(static_cast<double>(side) / spec.crop_pct), 1e12));
  };
  return {cover(spec.height), cover(spec.width)};
}

std::vector<StoredTensor> parse_safetensors(const std::uint8_t* data, std::size_t size, const std::string& shown) {
  if (size < 8) throw BundleError(in_quotes(shown) + " is too short for a safetensors file.");
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | data[i];
  if (header > size - 8 || header > kMaxManifestBytes)
    throw BundleError(in_quotes(shown) + " has a header of " + std::to_string(header) + " bytes.");
  const Json document = parse(data + 8, header, shown);
  const std::uint8_t* payload = data + 8 + header;
  const auto available = static_cast<std::int64_t>(size - 8 - header);

  std::vector<StoredTensor> found;
  Node(document, "", shown).members(1 << 20, [&](const std::string& name, const Node& node) {
    if (name == "__metadata__") return;
    StoredTensor tensor{name, node.at("dtype").text(), {}, nullptr, 0};
    const std::int64_t width = tensor.dtype == "F32" ? 4 : tensor.dtype == "U8" ? 1 : 0;
    std::int64_t bytes = width;
    node.at("shape").each(8, [&](std::size_t, const Node& dim) {
      tensor.shape.push_back(dim.integer(0, kMaxDimension));
      if (__builtin_mul_overflow(bytes, tensor.shape.back(), &bytes)) dim.fail("a tensor that fits into memory");
    });
    std::int64_t offsets[2] = {-1, -1};
    node.at("data_offsets").each(2, [&](std::size_t i, const Node& item) { offsets[i] = item.integer(0, available); });
    if (offsets[1] < offsets[0] || offsets[0] < 0) node.at("data_offsets").fail("a begin and an end");
    if (width == 0) return;  // an element type that no golden tensor has
    if (offsets[1] - offsets[0] != bytes) node.at("data_offsets").fail(std::to_string(bytes) + " bytes");
    tensor.data = payload + offsets[0];
    tensor.bytes = static_cast<std::size_t>(bytes);
    found.push_back(std::move(tensor));
  });
  return found;
}

}  // namespace linglos::detail
