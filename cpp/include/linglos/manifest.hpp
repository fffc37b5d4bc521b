// What manifest.json says, as plain values. Field names and meanings are those of linglos_deploy/bundle.py.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace linglos {

enum class Interpolation { bilinear, bicubic };

/// How an image becomes model input: resize to cover floor(input / crop_pct), crop the centre, normalize to
/// (pixel - scale * mean) / (scale * std). Models that take other colours than RGB, or channels last, are refused.
struct Preprocessing {
  int height = 224;  ///< Of the model input, in pixels.
  int width = 224;
  Interpolation interpolation = Interpolation::bicubic;
  double crop_pct = 0.95;             ///< In (0, 1].
  std::array<double, 3> mean = {};    ///< In units of `scale`, RGB.
  std::array<double, 3> std_dev = {};  ///< Likewise, above 0.
  double scale = 255.0;                ///< The value of a pixel that counts as 1.
};

/// What a graph's `image` input takes.
enum class InputKind {
  tensor,  ///< Preprocessed float32, N x 3 x H x W.
  pixels   ///< Resized and cropped uint8 RGB, N x H x W x 3.
};

/// One input or output; a dynamic dimension is -1.
struct TensorSpec {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
};

struct GraphEntry {
  std::string file;
  std::string precision;
  InputKind input = InputKind::tensor;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::map<std::string, std::string> session_options;  ///< ONNX Runtime entries that a loader must set.
  /// Entries to set besides on x86 CPUs without VNNI or AMX, whose fast INT8 kernels overflow.
  std::map<std::string, std::string> saturating_session_options;
  std::string placement;              ///< Where its Q/DQ pairs stand, by name; empty without INT8.
  std::vector<std::string> runtimes;  ///< The backends that it is made for, such as "openvino"; empty for all.
  std::vector<std::string> machines;  ///< The processors that it is made for, such as "x86_64"; empty for all.
};

struct EngineEntry {
  std::string file;
  std::string backend;  ///< What built it and can run it.
  std::string source;   ///< The graph it was compiled from.
  std::string precision;
  InputKind input = InputKind::tensor;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::map<std::string, std::string> requirements;  ///< What a machine needs to load it.
};

struct Golden {
  std::string file;
  std::int64_t count = 0;
  std::map<std::string, double> max_abs;  ///< Per graph file: accepted difference, as a share of the largest value.
};

struct FileEntry {
  std::uint64_t bytes = 0;
  std::string sha256;
};

/// What is known of a model's weights.
enum class Weights { trained, random, unknown };

struct Manifest {
  std::string name;
  bool passed = false;  ///< Whether every requested check passed when the bundle was made.
  std::vector<std::string> warnings;
  Weights weights = Weights::unknown;
  std::optional<bool> synthetic_calibration;
  Preprocessing preprocessing;
  std::vector<std::string> labels;
  std::vector<GraphEntry> graphs;  ///< At least one; the first is the float32 reference.
  std::vector<EngineEntry> engines;
  std::optional<Golden> golden;
  std::map<std::string, FileEntry> files;
};

}  // namespace linglos
