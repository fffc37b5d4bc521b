// What a session needs of a backend. An engine is shared by all threads; a context belongs to one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linglos/manifest.hpp"
#include "linglos/session.hpp"

namespace linglos::detail {

/// Input and output memory for up to max_batch images, and whatever else one run needs.
class Context {
 public:
  virtual ~Context() = default;

  /// Where the caller writes the input: float32 N x 3 x H x W or uint8 N x H x W x 3, by InputKind.
  virtual void* input() noexcept = 0;

  /// Runs the first `batch` images. Allocates nothing of its own after the first call with this batch size.
  virtual void run(std::size_t batch) = 0;

  /// Output `index` of the last run: float32, one image after the other.
  virtual const float* output(std::size_t index) const noexcept = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::unique_ptr<Context> create_context() = 0;

  /// Outputs in order; the first dimension is -1, all others are known.
  virtual const std::vector<TensorSpec>& outputs() const noexcept = 0;
  virtual std::size_t max_batch() const noexcept = 0;
  /// True if every run has max_batch images, whatever is in the last of them.
  virtual bool fixed_batch() const noexcept = 0;
  /// `cpu` or `cuda:N`.
  virtual const std::string& device() const noexcept = 0;
};

/// What an engine is made from, graph or plan.
struct ModelFile {
  std::string file;
  std::vector<std::uint8_t> data;
  InputKind input = InputKind::tensor;
  Preprocessing preprocessing;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::map<std::string, std::string> session_options;
  std::map<std::string, std::string> requirements;
};

/// Bytes of one image as the engine takes it.
std::size_t input_bytes(const ModelFile& model);

/// Values of one image in an output.
std::size_t values_per_image(const TensorSpec& output);

/// Checks that the model has one input that fits the preprocessing; returns its batch size, or 0 if it is dynamic.
///
/// Throws BundleError.
std::size_t check_input(const ModelFile& model);

#if LINGLOS_HAS_ONNXRUNTIME
BackendInfo onnxruntime_info();
bool onnxruntime_has_cuda();
std::unique_ptr<Engine> open_onnxruntime(const ModelFile& model, const SessionOptions& options, bool cuda);
#endif

#if LINGLOS_HAS_OPENVINO
BackendInfo openvino_info();
std::unique_ptr<Engine> open_openvino(const ModelFile& model, const SessionOptions& options);
#endif

#if LINGLOS_HAS_TENSORRT
/// `kind` is tensorrt or tensorrt_rtx.
BackendInfo tensorrt_info(BackendKind kind);
/// Throws DeviceError or BackendError, with the reason, if this machine cannot run the engine. Deserializes nothing.
void require_tensorrt(BackendKind kind, const EngineEntry& entry, std::uint64_t bytes, int device);
std::unique_ptr<Engine> open_tensorrt(BackendKind kind, const ModelFile& model, const SessionOptions& options);
#endif

/// An opened engine, with the story of how it was chosen.
struct Choice {
  std::unique_ptr<Engine> engine;
  std::string backend;
  std::string file;
  std::string source;  // the graph whose golden outputs the self-test compares with
  std::string precision;
  InputKind input = InputKind::tensor;
  std::string reason;
};

/// Opens the best engine that the options allow and the machine can run.
Choice choose_engine(const Bundle& bundle, const SessionOptions& options);

}  // namespace linglos::detail
