// ONNX Runtime through its C API, loaded when first needed: one build runs with every release since 1.20.
#include "onnxruntime.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "files.hpp"
#include "library.hpp"

namespace linglos::detail {
namespace {

constexpr std::uint32_t kOldestApi = 20;  // ONNX Runtime 1.20, the oldest that is tested
static_assert(ORT_API_VERSION >= kOldestApi, "linglos needs the headers of ONNX Runtime 1.20 or later");

/// 20 of "1.20.1".
std::uint32_t minor_version(const std::string& version) {
  const auto dot = version.find('.');
  return dot == std::string::npos ? 0 : static_cast<std::uint32_t>(std::strtoul(version.c_str() + dot + 1, nullptr, 10));
}

/// Owns an object of the C API.
template <typename T>
class Handle {
 public:
  using Release = void(ORT_API_CALL*)(T*);
  explicit Handle(Release release) noexcept : release_(release) {}
  ~Handle() { reset(); }
  Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, nullptr)), release_(other.release_) {}
  Handle& operator=(Handle&&) = delete;
  void reset() noexcept {
    if (value_ != nullptr) release_(std::exchange(value_, nullptr));
  }
  T* get() const noexcept { return value_; }
  T** out() noexcept { return &value_; }

 private:
  T* value_ = nullptr;
  Release release_;
};

/// Two texts, put together only if they are needed: a run that works allocates nothing.
void check(const OrtApi* api, OrtStatus* status, const char* doing, const std::string& what = "") {
  if (status == nullptr) return;
  const std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw BackendError("ONNX Runtime failed while " + std::string(doing) + what + ": " + message);
}

/// One environment for the process, gone with its last engine.
std::shared_ptr<OrtEnv> environment(const OrtApi* api) {
  OrtEnv* env = nullptr;  // ONNX Runtime itself counts references to its only environment
  check(api, api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "linglos", &env), "starting");
  return {env, api->ReleaseEnv};
}

struct Model {
  const OrtApi* api;
  std::shared_ptr<OrtEnv> env;
  Handle<OrtSession> session;
  Handle<OrtMemoryInfo> memory;
  std::string file;
  InputKind input = InputKind::tensor;
  std::array<std::int64_t, 4> input_shape = {};  // of one image: the first is 1
  std::size_t image_bytes = 0;
  std::string input_name;
  std::vector<const char*> output_names;
  std::vector<TensorSpec> outputs;
  std::size_t max_batch = 0;

  Model(const OrtApi* table, std::shared_ptr<OrtEnv> environment)
      : api(table), env(std::move(environment)), session(table->ReleaseSession), memory(table->ReleaseMemoryInfo) {}

  Handle<OrtValue> wrap(void* data, std::size_t bytes, const std::int64_t* shape, std::size_t rank,
                        ONNXTensorElementDataType type) const {
    Handle<OrtValue> value(api->ReleaseValue);
    check(api, api->CreateTensorWithDataAsOrtValue(memory.get(), data, bytes, shape, rank, type, value.out()),
          "wrapping a buffer");
    return value;
  }

  Handle<OrtValue> wrap_input(void* data, std::size_t batch) const {
    auto shape = input_shape;
    shape[0] = static_cast<std::int64_t>(batch);
    return wrap(data, batch * image_bytes, shape.data(), shape.size(),
                input == InputKind::tensor ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
  }

  void run(const OrtValue* input_value, OrtValue** output_values) const {
    const char* name = input_name.c_str();
    check(api,
          api->Run(session.get(), nullptr, &name, &input_value, 1, output_names.data(), output_names.size(),
                   output_values),
          "running ", file);
  }
};

class OrtContext final : public Context {
 public:
  explicit OrtContext(std::shared_ptr<const Model> model) : model_(std::move(model)), bound_(model_->max_batch + 1) {
    input_.resize(model_->max_batch * model_->image_bytes / sizeof(float) + 1);
    for (const auto& output : model_->outputs) outputs_.emplace_back(model_->max_batch * values_per_image(output));
  }

  void* input() noexcept override { return input_.data(); }
  const float* output(std::size_t index) const noexcept override { return outputs_[index].data(); }

  void run(std::size_t batch) override {
    Bound& bound = bound_[batch];
    if (bound.outputs.empty()) bind(batch, bound);
    model_->run(bound.input.front().get(), bound.outputs.data());
  }

 private:
  /// Tensors over our buffers for one batch size, made once and kept.
  struct Bound {
    std::vector<Handle<OrtValue>> input;
    std::vector<Handle<OrtValue>> owned;
    std::vector<OrtValue*> outputs;
  };

  void bind(std::size_t batch, Bound& bound) {
    bound.input.clear();
    bound.owned.clear();
    bound.input.push_back(model_->wrap_input(input_.data(), batch));
    std::vector<OrtValue*> values;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const TensorSpec& spec = model_->outputs[i];
      auto shape = spec.shape;
      shape[0] = static_cast<std::int64_t>(batch);
      bound.owned.push_back(model_->wrap(outputs_[i].data(), batch * values_per_image(spec) * sizeof(float),
                                         shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
      values.push_back(bound.owned.back().get());
    }
    bound.outputs = std::move(values);
  }

  std::shared_ptr<const Model> model_;
  std::vector<float> input_;  // float for its alignment; also holds bytes
  std::vector<std::vector<float>> outputs_;
  std::vector<Bound> bound_;
};

class OrtEngine final : public Engine {
 public:
  OrtEngine(std::shared_ptr<const Model> model, bool fixed, std::string device)
      : model_(std::move(model)), fixed_(fixed), device_(std::move(device)) {}
  std::unique_ptr<Context> create_context() override { return std::make_unique<OrtContext>(model_); }
  const std::vector<TensorSpec>& outputs() const noexcept override { return model_->outputs; }
  std::size_t max_batch() const noexcept override { return model_->max_batch; }
  bool fixed_batch() const noexcept override { return fixed_; }
  const std::string& device() const noexcept override { return device_; }

 private:
  std::shared_ptr<const Model> model_;
  bool fixed_;
  std::string device_;
};

void append_cuda(const OrtApi* api, OrtSessionOptions* options, int index) {
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  OrtStatus* status = api->CreateCUDAProviderOptions(&cuda);
  if (status == nullptr) {
    const std::string device = std::to_string(index);
    const char* key = "device_id";
    const char* value = device.c_str();
    status = api->UpdateCUDAProviderOptions(cuda, &key, &value, 1);
    if (status == nullptr) status = api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda);
    api->ReleaseCUDAProviderOptions(cuda);
  }
  if (status != nullptr) {
    const std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw DeviceError("ONNX Runtime cannot use CUDA device " + std::to_string(index) + ": " + message);
  }
}

/// Runs once on zeros to learn what the outputs of one image look like, whatever the manifest calls dynamic.
void learn_outputs(Model& model, const ModelFile& file, std::size_t batch) {
  std::vector<float> zeros(batch * model.image_bytes / sizeof(float) + 1);
  const Handle<OrtValue> input = model.wrap_input(zeros.data(), batch);
  std::vector<OrtValue*> values(file.outputs.size(), nullptr);
  std::vector<Handle<OrtValue>> owned;  // made before there is anything that could be lost
  for (std::size_t i = 0; i < values.size(); ++i) owned.emplace_back(model.api->ReleaseValue);
  model.run(input.get(), values.data());
  for (std::size_t i = 0; i < values.size(); ++i) *owned[i].out() = values[i];
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& api = *model.api;
    Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
    check(&api, api.GetTensorTypeAndShape(values[i], info.out()), "asking for a shape");
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t rank = 0;
    check(&api, api.GetTensorElementType(info.get(), &type), "asking for a type");
    check(&api, api.GetDimensionsCount(info.get(), &rank), "asking for a rank");
    TensorSpec spec{file.outputs[i].name, "float32", std::vector<std::int64_t>(rank)};
    check(&api, api.GetDimensions(info.get(), spec.shape.data(), rank), "asking for a shape");
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || rank == 0 || spec.shape[0] != static_cast<std::int64_t>(batch))
      throw BundleError("Output " + in_quotes(spec.name) + " of " + in_quotes(file.file) +
                        " is not float32 with the batch in front; export the model again.");
    spec.shape[0] = -1;
    model.outputs.push_back(std::move(spec));
  }
}

}  // namespace

namespace {

/// The table of functions of the library that was loaded first.
struct Loaded {
  const OrtApi* api;
  std::string version;
};

/// `OrtGetApiBase` carries the release in its symbol version, so a program linked to one release starts with no other.
/// Looked up by name it works with all of them; the table only ever grows at its end, and asking for the oldest one
/// that has what is used here gives a table on which all that is used stands where the headers say.
const Loaded& loaded() {
  static const Loaded instance = [] {
    const Library library = Library::open(BackendKind::onnxruntime, "ONNX Runtime", "LINGLOS_ONNXRUNTIME_LIBRARY",
                                          {"libonnxruntime.so.1", "libonnxruntime.so"});
    const OrtApiBase* base = library.get<const OrtApiBase*()>("OrtGetApiBase")();
    const std::string version = base == nullptr ? "unknown" : base->GetVersionString();
    // Asking an older release for the table would make it write to stderr.
    const OrtApi* api = base == nullptr || minor_version(version) < kOldestApi ? nullptr : base->GetApi(kOldestApi);
    if (api == nullptr)
      throw BackendError("ONNX Runtime " + version + " in " + in_quotes(library.path()) + " is too old: 1." +
                         std::to_string(kOldestApi) + " or later is needed.");
    return Loaded{api, version};
  }();
  return instance;  // where it throws, the next call tries again
}

std::atomic<const OrtApi*> replaced{nullptr};

}  // namespace

const OrtApi* onnxruntime_api() {
  const OrtApi* other = replaced;
  return other != nullptr ? other : loaded().api;
}

void replace_onnxruntime_api(const OrtApi* api) noexcept { replaced = api; }

bool onnxruntime_has_cuda() {
  const OrtApi* api = onnxruntime_api();
  char** names = nullptr;
  int count = 0;
  check(api, api->GetAvailableProviders(&names, &count), "listing its providers");
  bool found = false;
  for (int i = 0; i < count; ++i) found = found || std::strcmp(names[i], "CUDAExecutionProvider") == 0;
  check(api, api->ReleaseAvailableProviders(names, count), "listing its providers");
  return found;
}

BackendInfo onnxruntime_info() {
  BackendInfo info{"onnxruntime", "", true, ""};
  try {
    info.version = loaded().version;
    info.detail = onnxruntime_has_cuda() ? "runs ONNX graphs on cpu and cuda" : "runs ONNX graphs on cpu";
  } catch (const Error& error) {
    info.usable = false;
    info.detail = error.what();
  }
  return info;
}

std::unique_ptr<Engine> open_onnxruntime(const ModelFile& file, const SessionOptions& options, bool cuda) {
  return open_onnxruntime(file, options, cuda, onnxruntime_api());
}

std::unique_ptr<Engine> open_onnxruntime(const ModelFile& file, const SessionOptions& options, bool cuda,
                                         const OrtApi* api) {
  auto model = std::make_shared<Model>(api, environment(api));
  const std::size_t fixed = check_input(file);
  model->file = file.file;
  model->input = file.input;
  model->input_name = file.inputs.front().name;
  model->image_bytes = input_bytes(file);
  model->max_batch = fixed != 0 ? fixed : static_cast<std::size_t>(options.max_batch);
  const std::int64_t height = file.preprocessing.height;
  const std::int64_t width = file.preprocessing.width;
  if (file.input == InputKind::tensor)
    model->input_shape = {1, 3, height, width};
  else
    model->input_shape = {1, height, width, 3};

  Handle<OrtSessionOptions> settings(api->ReleaseSessionOptions);
  check(api, api->CreateSessionOptions(settings.out()), "starting");
  check(api, api->SetSessionLogSeverityLevel(settings.get(), ORT_LOGGING_LEVEL_FATAL), "setting options");
  check(api, api->SetIntraOpNumThreads(settings.get(), options.threads), "setting the number of threads");
  check(api, api->SetInterOpNumThreads(settings.get(), 1), "setting the number of threads");
  check(api, api->DisableMemPattern(settings.get()), "setting options");  // it would plan room for our outputs too
  const char* spin = options.spin ? "1" : "0";
  check(api, api->AddSessionConfigEntry(settings.get(), "session.intra_op.allow_spinning", spin), "setting options");
  for (const auto& [key, value] : file.session_options)
    check(api, api->AddSessionConfigEntry(settings.get(), key.c_str(), value.c_str()), "setting ", key);
  if (cuda) append_cuda(api, settings.get(), options.device_index);
  check(api,
        api->CreateSessionFromArray(model->env.get(), file.data.data(), file.data.size(), settings.get(),
                                    model->session.out()),
        "loading ", file.file);
  check(api, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, model->memory.out()), "starting");

  std::vector<std::string> names;
  for (const auto& output : file.outputs) names.push_back(output.name);
  for (const auto& name : names) model->output_names.push_back(name.c_str());
  learn_outputs(*model, file, fixed != 0 ? fixed : 1);
  for (std::size_t i = 0; i < names.size(); ++i) model->output_names[i] = model->outputs[i].name.c_str();
  return std::make_unique<OrtEngine>(std::move(model), fixed != 0,
                                     cuda ? "cuda:" + std::to_string(options.device_index) : "cpu");
}

}  // namespace linglos::detail
