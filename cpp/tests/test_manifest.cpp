#include <cstring>
#include <nlohmann/json.hpp>

#include "check.hpp"
#include "files.hpp"
#include "linglos/bundle.hpp"
#include "manifest.hpp"

using namespace linglos;
using namespace linglos::detail;
using Json = nlohmann::json;

namespace {

Json valid() {
  return Json::parse(R"({
    "schema": "linglos.bundle/1", "name": "tiny", "passed": true, "warnings": ["w"], "weights": "trained",
    "synthetic_calibration": null,
    "preprocessing": {"input_size": [32, 48], "interpolation": "bilinear", "crop_pct": 0.875,
                      "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "labels": ["a", "b"],
    "graphs": [{"file": "model.onnx", "precision": "fp32", "input": "tensor",
                "signature": {"inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 32, 48]}],
                              "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}]},
                "session_options": {"k": "v"}, "lineage": []}],
    "engines": [{"file": "e.engine", "backend": "tensorrt", "source": "model.onnx", "precision": "fp32",
                 "input": "tensor", "signature": {"inputs": [], "outputs": []},
                 "requirements": {"version": "10.3"}, "lineage": []}],
    "golden": {"file": "g.safetensors", "count": 2, "max_abs": {"model.onnx": 0.001}},
    "files": {"model.onnx": {"bytes": 1, "sha256": "00"}, "e.engine": {"bytes": 1, "sha256": "00"},
              "g.safetensors": {"bytes": 1, "sha256": "00"}},
    "tools": {}, "a field of a later version": 1})");
}

Manifest parse(const Json& json) {
  const std::string text = json.dump();
  return parse_manifest(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), "m");
}

Manifest parse_text(const std::string& text) {
  return parse_manifest(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), "m");
}

/// A safetensors file with this header and payload.
std::vector<std::uint8_t> tensors(const std::string& header, std::size_t payload, std::uint64_t claimed = 0) {
  if (claimed == 0) claimed = header.size();
  std::vector<std::uint8_t> data(8);
  for (int i = 0; i < 8; ++i) data[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(claimed >> (8 * i));
  data.insert(data.end(), header.begin(), header.end());
  data.resize(data.size() + payload);
  return data;
}

}  // namespace

TEST(every_field_of_the_manifest_is_read) {
  const Manifest manifest = parse(valid());
  CHECK(manifest.name == "tiny" && manifest.passed && manifest.weights == Weights::trained && !manifest.synthetic_calibration);
  CHECK(manifest.preprocessing.height == 32 && manifest.preprocessing.width == 48);
  CHECK(manifest.preprocessing.interpolation == Interpolation::bilinear);
  CHECK(manifest.preprocessing.crop_pct == 0.875 && manifest.preprocessing.std_dev[2] == 0.25);
  CHECK(manifest.labels.size() == 2 && manifest.warnings.size() == 1);
  CHECK(manifest.graphs[0].inputs[0].shape == (std::vector<std::int64_t>{-1, 3, 32, 48}));
  CHECK(manifest.graphs[0].session_options.at("k") == "v");
  CHECK(manifest.engines[0].requirements.at("version") == "10.3");
  CHECK(manifest.golden->max_abs.at("model.onnx") == 0.001);
  CHECK(manifest.files.size() == 3);
}

TEST(a_graph_says_which_runtime_and_processor_it_is_made_for) {
  Json json = valid();
  CHECK(parse(json).graphs[0].runtimes.empty() && parse(json).graphs[0].placement.empty());
  json["graphs"][0]["placement"] = "onnxruntime-x86";
  json["graphs"][0]["runtimes"] = {"onnxruntime"};
  json["graphs"][0]["machines"] = {"x86_64", "AMD64"};
  json["graphs"][0]["saturating_session_options"] = {{"s", "1"}};
  const GraphEntry graph = parse(json).graphs[0];
  CHECK(graph.placement == "onnxruntime-x86" && graph.runtimes == std::vector<std::string>{"onnxruntime"});
  CHECK(graph.machines.size() == 2 && graph.saturating_session_options.at("s") == "1");
  json["graphs"][0]["runtimes"] = 3;
  CHECK_THROWS(BundleError, "", parse(json));
}

TEST(no_required_field_may_be_missing_or_of_another_type) {
  const Json all = valid();
  for (const auto& [key, value] : all.items()) {
    if (key == "tools" || key == "a field of a later version") continue;
    Json without = valid();
    without.erase(key);
    CHECK_THROWS(BundleError, "has no field '" + key + "'", parse(without));
    Json other = valid();
    other[key] = 17;
    CHECK_THROWS(BundleError, "", parse(other));
  }
  for (const char* key : {"input_size", "interpolation", "crop_pct", "mean", "std"}) {
    Json without = valid();
    without["preprocessing"].erase(key);
    CHECK_THROWS(BundleError, key, parse(without));
  }
}

TEST(sizes_in_the_manifest_have_limits) {
  const auto with = [](const char* pointer, const Json& value) {
    Json json = valid();
    json[Json::json_pointer(pointer)] = value;
    return json;
  };
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/preprocessing/input_size/0", 1000000000)));
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/preprocessing/input_size/0", 0)));
  CHECK_THROWS(BundleError, "at most 2", parse(with("/preprocessing/input_size", {1, 2, 3})));
  CHECK_THROWS(BundleError, "a height and a width", parse(with("/preprocessing/input_size", {1})));
  CHECK_THROWS(BundleError, "three numbers", parse(with("/preprocessing/mean", {1, 2})));
  CHECK_THROWS(BundleError, "std above 0", parse(with("/preprocessing/std/0", 0)));
  CHECK_THROWS(BundleError, "crop_pct", parse(with("/preprocessing/crop_pct", 0)));
  CHECK(parse(with("/preprocessing/scale", 127.5)).preprocessing.scale == 127.5);
  CHECK_THROWS(BundleError, "scale", parse(with("/preprocessing/scale", 0)));
  CHECK_THROWS(BundleError, "color 'bgr'", parse(with("/preprocessing/color", "bgr")));
  CHECK_THROWS(BundleError, "layout 'nhwc'", parse(with("/preprocessing/layout", "nhwc")));
  CHECK_THROWS(BundleError, "crop_pct", parse(with("/preprocessing/crop_pct", 1e-300)));
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/golden/count", 1e30)));
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/golden/count", -1)));
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/files/model.onnx/bytes", -1)));
  CHECK_THROWS(BundleError, "expected an integer", parse(with("/files/model.onnx/bytes", 18446744073709551615U)));
  CHECK_THROWS(BundleError, "expected an integer",
               parse(with("/graphs/0/signature/inputs/0/shape/1", 9007199254740993)));
  CHECK_THROWS(BundleError, "at most 8", parse(with("/graphs/0/signature/inputs/0/shape", Json(9, 1))));
  CHECK_THROWS(BundleError, "at most 4096 bytes", parse(with("/graphs/0/file", std::string(5000, 'a'))));
  Json many = valid();
  for (int i = 0; i < 10001; ++i) many["files"][std::to_string(i)] = {{"bytes", 0}, {"sha256", ""}};
  CHECK_THROWS(BundleError, "at most 10000", parse(many));
}

TEST(a_manifest_must_list_what_it_refers_to) {
  Json unlisted = valid();
  unlisted["files"].erase("g.safetensors");
  CHECK_THROWS(BundleError, "refers to 'g.safetensors'", parse(unlisted));
  Json empty = valid();
  empty["graphs"] = Json::array();
  CHECK_THROWS(BundleError, "lists no graph", parse(empty));
  Json other = valid();
  other["schema"] = "linglos.bundle/2";
  CHECK_THROWS(BundleError, "another schema", parse(other));
}

TEST(what_is_not_json_is_refused_without_harm) {
  for (const std::string& text : {std::string(), std::string("{"), std::string("\xff\xfe"), std::string(100000, '['),
                                  std::string("[1e999]"), std::string("nul"), std::string("\0\0", 2)})
    CHECK_THROWS(BundleError, "", parse_text(text));
}

TEST(only_plain_relative_paths_stay_inside) {
  for (const char* name : {"a", "a/b", "a.b/..c", "...", "a b"}) CHECK(is_confined(name));
  for (const char* name : {"", "/a", "..", "../a", "a/..", "a/../b", "./a", "a/.", "a//b", "a/", "a\\b", "\\a"})
    CHECK(!is_confined(name));
  CHECK(!is_confined(std::string("a\0b", 3)));
  CHECK(!is_confined(std::string(5000, 'a')));
}

TEST(messages_do_not_carry_control_characters) {
  CHECK(in_quotes("a\x1b[31m\n") == "'a?[31m?'");
  CHECK(in_quotes(std::string(1000, 'a')).size() == 205);
}

TEST(safetensors_are_read_and_their_offsets_checked) {
  const auto good = tensors(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                                "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
                                "c": {"dtype": "I64", "shape": [0], "data_offsets": [11, 11]},
                                "__metadata__": {"k": "v"}})", 11);
  const auto found = parse_safetensors(good.data(), good.size(), "g");
  CHECK(found.size() == 2 && found[0].bytes == 8 && found[1].data == found[0].data + 8);

  const auto refused = [](const std::string& header, const char* message, std::uint64_t claimed = 0) {
    const auto data = tensors(header, 8, claimed);
    CHECK_THROWS(BundleError, message, parse_safetensors(data.data(), data.size(), "g"));
  };
  refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}})", "expected an integer");
  refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 8]}})", "expected 8 bytes");
  refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})", "a begin and an end");
  refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8]}})", "a begin and an end");
  refused(R"({"a": {"dtype": "F32", "shape": [1073741824, 1073741824, 1073741824], "data_offsets": [0, 8]}})", "fits");
  refused(R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}})", "expected an integer");
  refused(R"({"a": 1})", "expected an object");
  refused("{}", "header of 18446744073709551615", ~std::uint64_t{0});
  refused("{", "not JSON");
  CHECK_THROWS(BundleError, "too short", parse_safetensors(good.data(), 7, "g"));
}

TEST(sha256_is_sha256) {
  CHECK(sha256(reinterpret_cast<const std::uint8_t*>("abc"), 3) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(a_bundle_gives_only_files_that_it_lists) {
  const Bundle bundle = Bundle::open(check::bundles() + "/digits");
  CHECK(bundle.read("model.onnx").size() == bundle.manifest().files.at("model.onnx").bytes);
  CHECK_THROWS(UsageError, "lists no file", bundle.read("manifest.json"));
  CHECK_THROWS(UsageError, "lists no file", bundle.read("../digits/model.onnx"));
  CHECK_THROWS(BundleError, "is not a bundle", Bundle::open(check::bundles() + "/none"));
}
