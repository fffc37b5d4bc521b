// Which file of a bundle runs here, and why.
#include <algorithm>
#include <utility>

#include "backend.hpp"
#include "cpu.hpp"
#include "files.hpp"

namespace linglos {

std::vector<BackendInfo> backends() {
  std::vector<BackendInfo> found;
#if LINGLOS_HAS_TENSORRT
  found.push_back(detail::tensorrt_info(BackendKind::tensorrt));
  found.push_back(detail::tensorrt_info(BackendKind::tensorrt_rtx));
#endif
#if LINGLOS_HAS_ONNXRUNTIME
  found.push_back(detail::onnxruntime_info());
#endif
#if LINGLOS_HAS_OPENVINO
  found.push_back(detail::openvino_info());
#endif
  return found;
}

namespace detail {
namespace {

/// ONNX Runtime entries for a graph, with those that keep this CPU from overflowing.
std::map<std::string, std::string> options_here(const GraphEntry& entry) {
  auto found = entry.session_options;
  if (int8_saturates())
    for (const auto& [key, value] : entry.saturating_session_options) found[key] = value;
  return found;
}

template <typename Entry>
ModelFile load(const Bundle& bundle, const Entry& entry) {
  ModelFile model;
  model.file = entry.file;
  model.input = entry.input;
  model.preprocessing = bundle.manifest().preprocessing;
  model.inputs = entry.inputs;
  model.outputs = entry.outputs;
  if constexpr (std::is_same_v<Entry, GraphEntry>)
    model.session_options = options_here(entry);
  else
    model.requirements = entry.requirements;
  check_input(model);
  model.data = bundle.read(entry.file);
  return model;
}

void check_options(const SessionOptions& options) {
  const auto check = [](const char* name, int value, int low, int high) {
    if (value < low || value > high)
      throw UsageError(std::string(name) + " must be from " + std::to_string(low) + " to " + std::to_string(high) +
                       ", found " + std::to_string(value) + ".");
  };
  check("threads", options.threads, 0, 1024);
  check("contexts", options.contexts, 1, 1024);
  check("max_batch", options.max_batch, 1, 65536);
  check("device_index", options.device_index, 0, 1024);
}

void append(std::string& why, const std::string& reason) { why += (why.empty() ? "" : "; ") + reason; }

/// The backend that runs what `name` built; automatic if this library has none.
BackendKind engine_backend(const std::string& name) {
  if (name == "tensorrt") return BackendKind::tensorrt;
  if (name == "tensorrt-rtx") return BackendKind::tensorrt_rtx;
  return BackendKind::automatic;
}

const char* title_of(BackendKind kind) { return kind == BackendKind::tensorrt_rtx ? "TensorRT-RTX" : "TensorRT"; }

bool wants_engine(BackendKind kind) { return kind == BackendKind::tensorrt || kind == BackendKind::tensorrt_rtx; }

/// Tries the compiled engines in the order of the manifest; appends to `why` what spoke against each.
bool try_engines(const Bundle& bundle, const SessionOptions& options, [[maybe_unused]] Choice& choice,
                 std::string& why, [[maybe_unused]] ErrorCode& code) {
  for (const auto& entry : bundle.manifest().engines) {
    if (!options.precision.empty() && options.precision != entry.precision) continue;
    const BackendKind kind = engine_backend(entry.backend);
    if (options.backend != BackendKind::automatic && options.backend != kind) continue;
    std::string reason;
    if (kind == BackendKind::automatic) {
      reason = "this library does not run " + entry.backend + " engines";
    } else {
#if LINGLOS_HAS_TENSORRT
      try {
        require_tensorrt(kind, entry, bundle.manifest().files.at(entry.file).bytes, options.device_index);
        choice.engine = open_tensorrt(kind, load(bundle, entry), options);
        choice.backend = entry.backend;
        choice.file = entry.file;
        choice.source = entry.source;
        choice.precision = entry.precision;
        choice.input = entry.input;
        choice.reason = entry.file + ": a " + title_of(kind) + " engine that fits " + choice.engine->device();
        return true;
      } catch (const BundleError&) {
        throw;  // a changed file is never a reason to try the next one
      } catch (const Error& error) {
        reason = error.what();
        code = error.code();
      }
#else
      reason = std::string("built without ") + title_of(kind) + " (configure with -DLINGLOS_TENSORRT=ON)";
#endif
    }
    append(why, entry.file + ": " + reason);
  }
  return false;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string precisions(const Manifest& manifest) {
  std::vector<std::string> found;  // INT8 may have a graph for each runtime
  for (const auto& graph : manifest.graphs)
    if (!contains(found, graph.precision)) found.push_back(graph.precision);
  std::string names;
  for (const auto& name : found) names += (names.empty() ? "" : ", ") + name;
  return names;
}

/// What platform.machine() says in Python on a processor like the one that this library was built for.
constexpr const char* kMachine =
#if defined(__x86_64__)
    "x86_64";
#elif defined(__aarch64__)
    "aarch64";
#else
    "";
#endif

/// Whether a graph is made for a runtime on this processor, rather than merely readable.
bool serves(const GraphEntry& graph, const std::string& runtime) {
  return contains(graph.runtimes, runtime) && (graph.machines.empty() || contains(graph.machines, kMachine));
}

const GraphEntry& pick_graph(const Bundle& bundle, const SessionOptions& options, const std::string& runtime,
                             std::string& why) {
  const Manifest& manifest = bundle.manifest();
  if (!options.precision.empty()) {
    const GraphEntry* found = nullptr;
    for (const auto& graph : manifest.graphs)
      if (graph.precision == options.precision && (!found || (serves(graph, runtime) && !serves(*found, runtime))))
        found = &graph;
    if (found) {
      append(why, options.precision + " was asked for");
      return *found;
    }
    throw UsageError("The bundle " + in_quotes(bundle.path()) + " has no " + options.precision + " graph, only " +
                     precisions(manifest) + ".");
  }
  const GraphEntry& reference = manifest.graphs.front();
  if (manifest.graphs.size() > 1)  // whether INT8 is faster depends on CPU and backend, see docs/embedding.md
    append(why, reference.precision + " unless precision says otherwise (" + precisions(manifest) + ")");
  return reference;
}

std::unique_ptr<Engine> open_with_onnxruntime([[maybe_unused]] const Bundle& bundle,
                                              [[maybe_unused]] const GraphEntry& graph,
                                              [[maybe_unused]] const SessionOptions& options,
                                              [[maybe_unused]] std::string& why) {
#if LINGLOS_HAS_ONNXRUNTIME
  const bool cuda = options.device == DeviceKind::cuda ||
                    (options.device == DeviceKind::automatic && onnxruntime_has_cuda());
  try {
    return open_onnxruntime(load(bundle, graph), options, cuda);
  } catch (const DeviceError& error) {
    if (!cuda || options.device == DeviceKind::cuda) throw;
    append(why, error.what());
    return open_onnxruntime(load(bundle, graph), options, false);
  }
#else
  throw BackendError("built without ONNX Runtime (configure with -DLINGLOS_ONNXRUNTIME=ON)");
#endif
}

std::unique_ptr<Engine> open_with_openvino([[maybe_unused]] const Bundle& bundle,
                                           [[maybe_unused]] const GraphEntry& graph,
                                           [[maybe_unused]] const SessionOptions& options) {
#if LINGLOS_HAS_OPENVINO
  if (options.device == DeviceKind::cuda) throw DeviceError("OpenVINO runs on the CPU only, and CUDA was asked for.");
  return open_openvino(load(bundle, graph), options);
#else
  throw BackendError("built without OpenVINO (configure with -DLINGLOS_OPENVINO=ON)");
#endif
}

/// Opens a graph with the backend that was asked for, else with ONNX Runtime, else, where that is missing, OpenVINO.
Choice open_graph(const Bundle& bundle, const SessionOptions& options, std::string why) {
  const char* title = "ONNX Runtime";
  Choice choice;
  choice.backend = options.backend == BackendKind::openvino ? "openvino" : "onnxruntime";
  const GraphEntry* graph = &pick_graph(bundle, options, choice.backend, why);
  if (options.backend != BackendKind::openvino) {
    try {
      choice.engine = open_with_onnxruntime(bundle, *graph, options, why);
    } catch (const BackendError& error) {
      if (options.backend != BackendKind::automatic || options.device == DeviceKind::cuda) throw;
      append(why, error.what());
    }
  }
  if (!choice.engine) {
    choice.backend = "openvino";
    title = "OpenVINO";
    std::string known;  // why this precision, which has been said
    graph = &pick_graph(bundle, options, choice.backend, known);
    try {
      choice.engine = open_with_openvino(bundle, *graph, options);
    } catch (const BackendError& error) {
      if (options.backend == BackendKind::openvino) throw;
      throw BackendError("Nothing can run " + in_quotes(graph->file) + " here: " + why + "; " + error.what());
    }
  }
  choice.file = choice.source = graph->file;
  choice.precision = graph->precision;
  choice.input = graph->input;
  choice.reason = graph->file + " with " + title + " on " + choice.engine->device() + (why.empty() ? "" : ": " + why);
  return choice;
}

}  // namespace

std::size_t input_bytes(const ModelFile& model) {
  const auto values = 3 * static_cast<std::size_t>(model.preprocessing.height) *
                      static_cast<std::size_t>(model.preprocessing.width);
  return values * (model.input == InputKind::tensor ? sizeof(float) : 1);
}

std::size_t values_per_image(const TensorSpec& output) {
  std::size_t count = 1;
  for (std::size_t i = 1; i < output.shape.size(); ++i) count *= static_cast<std::size_t>(output.shape[i]);
  return count;
}

std::size_t check_input(const ModelFile& model) {
  const std::string where = in_quotes(model.file) + " in the manifest";
  if (model.inputs.size() != 1) throw BundleError(where + " has no single input.");
  if (model.outputs.empty()) throw BundleError(where + " has no output.");
  const TensorSpec& input = model.inputs.front();
  const bool tensor = model.input == InputKind::tensor;
  const std::int64_t height = model.preprocessing.height;
  const std::int64_t width = model.preprocessing.width;
  const std::int64_t expected[3] = {tensor ? 3 : height, tensor ? height : width, tensor ? width : 3};
  bool fits = input.shape.size() == 4 && input.dtype == (tensor ? "float32" : "uint8");
  for (std::size_t i = 1; fits && i < 4; ++i) fits = input.shape[i] == -1 || input.shape[i] == expected[i - 1];
  if (!fits)
    throw BundleError(where + " takes " + input.dtype + " input that does not fit the preprocessing, " +
                      (tensor ? "float32 N x 3 x " : "uint8 N x ") + std::to_string(height) + " x " +
                      std::to_string(width) + (tensor ? "." : " x 3."));
  const std::int64_t batch = input.shape[0];
  if (batch == 0 || batch > 65536) throw BundleError(where + " has a batch of " + std::to_string(batch) + ".");
  return batch < 0 ? 0 : static_cast<std::size_t>(batch);
}

Choice choose_engine(const Bundle& bundle, const SessionOptions& options) {
  check_options(options);
  Choice choice;
  std::string why;
  ErrorCode code = ErrorCode::backend;
  const bool engines = options.backend == BackendKind::automatic || wants_engine(options.backend);
  if (engines && options.device != DeviceKind::cpu &&
      try_engines(bundle, options, choice, why, code))
    return choice;
  if (wants_engine(options.backend)) {
    const std::string title = title_of(options.backend);
    if (why.empty() && options.device == DeviceKind::cpu) {
      why = title + " needs a CUDA device";
    } else if (why.empty()) {
      const std::string name = options.backend == BackendKind::tensorrt ? "tensorrt" : "tensorrt-rtx";
      why = "the bundle has no engine of it" +
            (options.precision.empty() ? std::string() : " of precision " + options.precision) +
            "; 'linglos-deploy export --engine " + name + "' builds one";
    }
    const std::string message = "No " + title + " engine can run here: " + why + ".";
    if (code == ErrorCode::device) throw DeviceError(message);
    throw BackendError(message);
  }
  return open_graph(bundle, options, std::move(why));
}

}  // namespace detail
}  // namespace linglos
