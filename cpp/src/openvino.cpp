// OpenVINO's CPU plugin through its C API, loaded when first needed.
//
// No header of OpenVINO is used: all its objects are opaque, its functions have kept their signatures since 2023.1, and
// the numbers of its element types, which did change, are taken from the model itself.
#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backend.hpp"
#include "files.hpp"
#include "library.hpp"

namespace linglos::detail {
namespace {

struct OvShape {  // ov_shape_t
  std::int64_t rank;
  std::int64_t* dims;
};

struct OvVersion {  // ov_version_t
  const char* build;
  const char* description;
};

/// The functions that are used, by the names of the C API without their prefix.
struct Api {
  using Status = int;
  Status (*get_openvino_version)(OvVersion*);
  void (*version_free)(OvVersion*);
  const char* (*get_error_info)(int);
  const char* (*get_last_err_msg)();  // null in releases that do not have it
  Status (*core_create)(void**);
  void (*core_free)(void*);
  Status (*core_read_model_from_memory_buffer)(const void*, const char*, std::size_t, const void*, void**);
  void (*model_free)(void*);
  Status (*core_compile_model)(const void*, const void*, const char*, std::size_t, void**, ...);
  void (*compiled_model_free)(void*);
  Status (*compiled_model_input)(const void*, void**);
  void (*output_const_port_free)(void*);
  Status (*port_get_element_type)(const void*, int*);
  Status (*compiled_model_create_infer_request)(const void*, void**);
  void (*infer_request_free)(void*);
  Status (*infer_request_set_tensor)(void*, const char*, const void*);
  Status (*infer_request_get_tensor)(const void*, const char*, void**);
  Status (*infer_request_infer)(void*);
  Status (*tensor_create_from_host_ptr)(int, OvShape, void*, void**);
  Status (*tensor_get_shape)(const void*, OvShape*);
  Status (*tensor_get_element_type)(const void*, int*);
  Status (*tensor_get_byte_size)(const void*, std::size_t*);
  Status (*shape_free)(OvShape*);
  void (*tensor_free)(void*);
  std::string version;

  void check(Status status, const char* doing, const std::string& what = "") const {
    if (status == 0) return;
    const char* said = get_last_err_msg == nullptr ? nullptr : get_last_err_msg();
    if (said == nullptr || said[0] == '\0') said = get_error_info(status);
    throw BackendError("OpenVINO failed while " + std::string(doing) + what + ": " + (said == nullptr ? "?" : said));
  }
};

/// Names of the library: each release has a number of its own in it, such as 2641 for 2026.4.1.
std::vector<std::string> library_names() {
  std::vector<std::string> names{"libopenvino_c.so"};
  for (int year = 30; year >= 23; --year)
    for (int minor = 6; minor >= 0; --minor)
      for (int patch = 3; patch >= 0; --patch)
        names.push_back("libopenvino_c.so." + std::to_string(year) + std::to_string(minor) + std::to_string(patch));
  return names;
}

const Api& loaded() {
  static const Api instance = [] {
    const Library library =
        Library::open(BackendKind::openvino, "OpenVINO", "LINGLOS_OPENVINO_LIBRARY", library_names());
    Api api = {};
    const auto get = [&](auto& function, const char* name) {
      function = library.get<std::remove_pointer_t<std::remove_reference_t<decltype(function)>>>(name);
    };
    get(api.get_openvino_version, "ov_get_openvino_version");
    get(api.version_free, "ov_version_free");
    get(api.get_error_info, "ov_get_error_info");
    api.get_last_err_msg = library.find<const char*()>("ov_get_last_err_msg");
    get(api.core_create, "ov_core_create");
    get(api.core_free, "ov_core_free");
    get(api.core_read_model_from_memory_buffer, "ov_core_read_model_from_memory_buffer");
    get(api.model_free, "ov_model_free");
    get(api.core_compile_model, "ov_core_compile_model");
    get(api.compiled_model_free, "ov_compiled_model_free");
    get(api.compiled_model_input, "ov_compiled_model_input");
    get(api.output_const_port_free, "ov_output_const_port_free");
    get(api.port_get_element_type, "ov_port_get_element_type");
    get(api.compiled_model_create_infer_request, "ov_compiled_model_create_infer_request");
    get(api.infer_request_free, "ov_infer_request_free");
    get(api.infer_request_set_tensor, "ov_infer_request_set_tensor");
    get(api.infer_request_get_tensor, "ov_infer_request_get_tensor");
    get(api.infer_request_infer, "ov_infer_request_infer");
    get(api.tensor_create_from_host_ptr, "ov_tensor_create_from_host_ptr");
    get(api.tensor_get_shape, "ov_tensor_get_shape");
    get(api.tensor_get_element_type, "ov_tensor_get_element_type");
    get(api.tensor_get_byte_size, "ov_tensor_get_byte_size");
    get(api.shape_free, "ov_shape_free");
    get(api.tensor_free, "ov_tensor_free");
    OvVersion version = {};
    api.check(api.get_openvino_version(&version), "asking for its version");
    const std::string build = version.build == nullptr ? "" : version.build;  // 2026.4.1-12345-abcdef…
    api.version = build.substr(0, build.find('-'));
    api.version_free(&version);
    return api;
  }();
  return instance;
}

/// Owns an object of the C API.
using Handle = std::unique_ptr<void, void (*)(void*)>;

template <typename Make>
Handle made(void (*release)(void*), Make&& make) {
  void* value = nullptr;
  make(&value);
  return {value, release};
}

/// Whether the INT8 kernels of this CPU overflow silently: x86 without VNNI and AMX multiplies with VPMADDUBSW.
bool int8_saturates() {
#if defined(__x86_64__) || defined(__i386__)
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (word == "avx_vnni" || word == "avx512_vnni" || word == "amx_int8") return false;
    return true;
  }
  return true;
#else
  return false;
#endif
}

struct Model {
  const Api& api;
  Handle core;
  Handle compiled;
  std::string file;
  std::string input_name;
  std::vector<std::int64_t> input_shape;  // of one image: the first is 1
  std::size_t image_bytes = 0;
  int input_type = 0;
  int output_type = 0;
  std::vector<TensorSpec> outputs;
  std::size_t max_batch = 0;

  explicit Model(const Api& table) : api(table), core(nullptr, table.core_free), compiled(nullptr, table.compiled_model_free) {}

  Handle request() const {
    return made(api.infer_request_free, [&](void** out) {
      api.check(api.compiled_model_create_infer_request(compiled.get(), out), "making a request for ", file);
    });
  }

  Handle wrap(int type, std::vector<std::int64_t> shape, std::size_t batch, void* data) const {
    shape[0] = static_cast<std::int64_t>(batch);
    const OvShape given{static_cast<std::int64_t>(shape.size()), shape.data()};
    return made(api.tensor_free, [&](void** out) {
      api.check(api.tensor_create_from_host_ptr(type, given, data, out), "wrapping a buffer");
    });
  }
};

class OvContext final : public Context {
 public:
  explicit OvContext(std::shared_ptr<const Model> model)
      : model_(std::move(model)), request_(model_->request()), bound_(model_->max_batch + 1) {
    input_.resize(model_->max_batch * model_->image_bytes / sizeof(float) + 1);
    for (const auto& output : model_->outputs) outputs_.emplace_back(model_->max_batch * values_per_image(output));
  }

  void* input() noexcept override { return input_.data(); }
  const float* output(std::size_t index) const noexcept override { return outputs_[index].data(); }

  void run(std::size_t batch) override {
    const Api& api = model_->api;
    if (batch != batch_) {
      Bound& bound = bound_[batch];
      if (bound.empty()) bind(batch, bound);
      batch_ = 0;  // until all are set
      api.check(api.infer_request_set_tensor(request_.get(), model_->input_name.c_str(), bound.front().get()),
                "setting the input of ", model_->file);
      for (std::size_t i = 0; i < outputs_.size(); ++i)
        api.check(api.infer_request_set_tensor(request_.get(), model_->outputs[i].name.c_str(), bound[i + 1].get()),
                  "setting an output of ", model_->file);
      batch_ = batch;
    }
    api.check(api.infer_request_infer(request_.get()), "running ", model_->file);
  }

 private:
  using Bound = std::vector<Handle>;  // the input, then the outputs: tensors over our buffers, made once and kept

  void bind(std::size_t batch, Bound& bound) {
    Bound made;
    made.push_back(model_->wrap(model_->input_type, model_->input_shape, batch, input_.data()));
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      made.push_back(model_->wrap(model_->output_type, model_->outputs[i].shape, batch, outputs_[i].data()));
    bound = std::move(made);
  }

  std::shared_ptr<const Model> model_;
  std::vector<float> input_;  // float for its alignment; also holds bytes
  std::vector<std::vector<float>> outputs_;
  Handle request_;
  std::vector<Bound> bound_;
  std::size_t batch_ = 0;
};

class OvEngine final : public Engine {
 public:
  OvEngine(std::shared_ptr<const Model> model, bool fixed) : model_(std::move(model)), fixed_(fixed) {}
  std::unique_ptr<Context> create_context() override { return std::make_unique<OvContext>(model_); }
  const std::vector<TensorSpec>& outputs() const noexcept override { return model_->outputs; }
  std::size_t max_batch() const noexcept override { return model_->max_batch; }
  bool fixed_batch() const noexcept override { return fixed_; }
  const std::string& device() const noexcept override { return device_; }

 private:
  std::shared_ptr<const Model> model_;
  bool fixed_;
  std::string device_ = "cpu";
};

/// Runs once on zeros to learn what the outputs of one image look like, whatever the manifest calls dynamic.
void learn_outputs(Model& model, const ModelFile& file, std::size_t batch) {
  const Api& api = model.api;
  std::vector<float> zeros(batch * model.image_bytes / sizeof(float) + 1);
  const Handle input = model.wrap(model.input_type, model.input_shape, batch, zeros.data());
  const Handle request = model.request();
  api.check(api.infer_request_set_tensor(request.get(), model.input_name.c_str(), input.get()), "setting the input of ",
            file.file);
  api.check(api.infer_request_infer(request.get()), "running ", file.file);
  for (const TensorSpec& wanted : file.outputs) {
    const Handle tensor = made(api.tensor_free, [&](void** out) {
      api.check(api.infer_request_get_tensor(request.get(), wanted.name.c_str(), out), "asking for ", wanted.name);
    });
    OvShape shape = {};
    std::size_t bytes = 0;
    api.check(api.tensor_get_element_type(tensor.get(), &model.output_type), "asking for a type");
    api.check(api.tensor_get_byte_size(tensor.get(), &bytes), "asking for a size");
    api.check(api.tensor_get_shape(tensor.get(), &shape), "asking for a shape");
    TensorSpec spec{wanted.name, "float32", {}};
    if (shape.rank > 0) spec.shape.assign(shape.dims, shape.dims + shape.rank);
    api.shape_free(&shape);
    if (wanted.dtype != "float32" || spec.shape.empty() || spec.shape[0] != static_cast<std::int64_t>(batch) ||
        bytes != batch * values_per_image(spec) * sizeof(float))
      throw BundleError("Output " + in_quotes(spec.name) + " of " + in_quotes(file.file) +
                        " is not float32 with the batch in front; export the model again.");
    spec.shape[0] = -1;
    model.outputs.push_back(std::move(spec));
  }
}

}  // namespace

BackendInfo openvino_info() {
  BackendInfo info{"openvino", "", false, ""};
  try {
    info.version = loaded().version;
    info.usable = true;
    info.detail = int8_saturates() ? "runs ONNX graphs on cpu; INT8 exactly, which is not faster on this CPU without VNNI"
                                   : "runs ONNX graphs on cpu";
  } catch (const Error& error) {
    info.detail = error.what();
  }
  return info;
}

std::unique_ptr<Engine> open_openvino(const ModelFile& file, const SessionOptions& options) {
  const Api& api = loaded();
  auto model = std::make_shared<Model>(api);
  const std::size_t fixed = check_input(file);
  model->file = file.file;
  model->input_name = file.inputs.front().name;
  model->image_bytes = input_bytes(file);
  model->max_batch = fixed != 0 ? fixed : static_cast<std::size_t>(options.max_batch);
  const std::int64_t height = file.preprocessing.height, width = file.preprocessing.width;
  if (file.input == InputKind::tensor)
    model->input_shape = {1, 3, height, width};
  else
    model->input_shape = {1, height, width, 3};

  model->core = made(api.core_free, [&](void** out) { api.check(api.core_create(out), "starting"); });
  const auto* text = reinterpret_cast<const char*>(file.data.data());
  const Handle graph = made(api.model_free, [&](void** out) {
    api.check(api.core_read_model_from_memory_buffer(model->core.get(), text, file.data.size(), nullptr, out),
              "reading ", file.file);
  });
  const std::string threads = std::to_string(options.threads);
  // Precision lives in the graph: no bfloat16, no second quantization, no INT8 kernels that overflow silently. What
  // stands behind the count of arguments that is passed is not read.
  const char* exact = int8_saturates() ? "NO" : "YES";
  const std::size_t properties = options.threads == 0 ? 5 : 6;
  model->compiled = made(api.compiled_model_free, [&](void** out) {
    api.check(api.core_compile_model(model->core.get(), graph.get(), "CPU", 2 * properties, out,  //
                                     "PERFORMANCE_HINT", "LATENCY",                               //
                                     "NUM_STREAMS", "1",                                          //
                                     "INFERENCE_PRECISION_HINT", "f32",                           //
                                     "DYNAMIC_QUANTIZATION_GROUP_SIZE", "0",                      //
                                     "LP_TRANSFORMS_MODE", exact,                                 //
                                     "INFERENCE_NUM_THREADS", threads.c_str()),
              "compiling ", file.file);
  });
  const Handle port = made(api.output_const_port_free, [&](void** out) {
    api.check(api.compiled_model_input(model->compiled.get(), out), "asking for the input of ", file.file);
  });
  api.check(api.port_get_element_type(port.get(), &model->input_type), "asking for a type");
  learn_outputs(*model, file, fixed != 0 ? fixed : 1);
  return std::make_unique<OvEngine>(std::move(model), fixed != 0);
}

}  // namespace linglos::detail
