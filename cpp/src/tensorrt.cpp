// TensorRT 10.x and 11.x through the calls that both have. Nothing is deserialized before the driver, the device, the
// release and the compute capability are known to fit.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>

#include "backend.hpp"
#include "files.hpp"

#if NV_TENSORRT_MAJOR < 10
#error "linglos needs TensorRT 10 or later"
#endif

namespace linglos::detail {
namespace {

void check(cudaError_t status, const char* doing) {
  if (status != cudaSuccess)
    throw DeviceError(std::string("CUDA failed while ") + doing + ": " + cudaGetErrorString(status) + ".");
}

/// The version of the library that is loaded, which need not be that of the headers.
std::string loaded_version() {
  const int version = getInferLibVersion();  // major * 10000 + minor * 100 + patch since 10.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

/// Number of devices; 0 with a reason if there is no usable driver.
int device_count(std::string& reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  reason = status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status);
  return 0;
}

std::string compute_capability(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking for the compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "asking for the compute capability");
  return std::to_string(major) + "." + std::to_string(minor);
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> found;
  bool inside = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) found.push_back(0);
    if (digit && found.back() < 1000000) found.back() = found.back() * 10 + (c - '0');
    inside = digit;
  }
  return found;
}

/// `wanted` is as the engine's sidecar describes it: "8.6, 8.9" or "8.0 or later".
bool capability_fits(const std::string& wanted, const std::string& here) {
  const auto machine = numbers(here);
  if (const auto later = wanted.find(" or later"); later != std::string::npos)
    return machine >= numbers(wanted.substr(0, later));
  for (std::size_t begin = 0; begin <= wanted.size();) {
    const std::size_t end = std::min(wanted.find(',', begin), wanted.size());
    if (numbers(wanted.substr(begin, end - begin)) == machine) return true;
    begin = end + 1;
  }
  return false;
}

/// A plan loads in the release that built it: the first three numbers decide, a build number behind them does not.
bool version_fits(const std::string& built, const std::string& here) {
  auto a = numbers(built);
  auto b = numbers(here);
  const std::size_t count = std::min<std::size_t>({a.size(), b.size(), 3});
  return count > 0 && std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(count), b.begin());
}

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    std::snprintf(last_, sizeof last_, "%s", message);
  }
  std::string last() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_[0] == '\0' ? "no message" : last_;
  }

 private:
  std::mutex mutex_;
  char last_[512] = "";
};

/// TensorRT keeps a pointer to the first logger of the process.
Logger& logger() {
  static Logger instance;
  return instance;
}

struct DeviceMemory {
  void* data = nullptr;
  explicit DeviceMemory(std::size_t bytes) { check(cudaMalloc(&data, bytes), "allocating device memory"); }
  ~DeviceMemory() { cudaFree(data); }
  DeviceMemory(DeviceMemory&& other) noexcept : data(std::exchange(other.data, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&&) = delete;
};

struct PinnedMemory {
  void* data = nullptr;
  explicit PinnedMemory(std::size_t bytes) {
    check(cudaMallocHost(&data, bytes), "allocating pinned memory");
    std::memset(data, 0, bytes);
  }
  ~PinnedMemory() { cudaFreeHost(data); }
  PinnedMemory(PinnedMemory&& other) noexcept : data(std::exchange(other.data, nullptr)) {}
  PinnedMemory& operator=(PinnedMemory&&) = delete;
};

struct Stream {
  cudaStream_t value = nullptr;
  Stream() { check(cudaStreamCreateWithFlags(&value, cudaStreamNonBlocking), "creating a stream"); }
  ~Stream() { cudaStreamDestroy(value); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

struct Plan {
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  int device = 0;
  std::string file;
  std::string input_name;
  nvinfer1::Dims input_dims = {};
  std::size_t image_bytes = 0;
  std::size_t max_batch = 0;
  bool fixed = false;
  std::vector<TensorSpec> outputs;
};

class TrtContext final : public Context {
 public:
  explicit TrtContext(std::shared_ptr<Plan> plan)
      : plan_(std::move(plan)),
        device_input_(plan_->max_batch * plan_->image_bytes),
        input_(plan_->max_batch * plan_->image_bytes),
        context_(plan_->engine->createExecutionContext()) {
    if (!context_) fail("creating a context");
    bool bound = context_->setInputTensorAddress(plan_->input_name.c_str(), device_input_.data);
    for (const auto& output : plan_->outputs) {
      const std::size_t bytes = plan_->max_batch * values_per_image(output) * sizeof(float);
      device_outputs_.emplace_back(bytes);
      outputs_.emplace_back(bytes);
      bound = bound && context_->setTensorAddress(output.name.c_str(), device_outputs_.back().data);
    }
    if (!bound) fail("binding buffers");
  }

  void* input() noexcept override { return input_.data; }
  const float* output(std::size_t index) const noexcept override {
    return static_cast<const float*>(outputs_[index].data);
  }

  void run(std::size_t batch) override {
    check(cudaSetDevice(plan_->device), "choosing a device");  // per thread
    if (batch != batch_) {
      auto dims = plan_->input_dims;
      dims.d[0] = static_cast<std::int32_t>(batch);
      if (!context_->setInputShape(plan_->input_name.c_str(), dims)) fail("setting the batch size");
      batch_ = batch;
    }
    check(cudaMemcpyAsync(device_input_.data, input_.data, batch * plan_->image_bytes, cudaMemcpyHostToDevice,
                          stream_.value),
          "copying the input");
    if (!context_->enqueueV3(stream_.value)) fail("running");
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      check(cudaMemcpyAsync(outputs_[i].data, device_outputs_[i].data,
                            batch * values_per_image(plan_->outputs[i]) * sizeof(float), cudaMemcpyDeviceToHost,
                            stream_.value),
            "copying an output");
    check(cudaStreamSynchronize(stream_.value), "running");
  }

 private:
  [[noreturn]] void fail(const char* doing) const {
    throw BackendError(std::string("TensorRT failed while ") + doing + " " + plan_->file + ": " + logger().last());
  }

  std::shared_ptr<Plan> plan_;
  Stream stream_;
  DeviceMemory device_input_;
  PinnedMemory input_;
  std::vector<DeviceMemory> device_outputs_;
  std::vector<PinnedMemory> outputs_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::size_t batch_ = 0;
};

class TrtEngine final : public Engine {
 public:
  explicit TrtEngine(std::shared_ptr<Plan> plan)
      : plan_(std::move(plan)), device_("cuda:" + std::to_string(plan_->device)) {}
  std::unique_ptr<Context> create_context() override {
    check(cudaSetDevice(plan_->device), "choosing a device");
    return std::make_unique<TrtContext>(plan_);
  }
  const std::vector<TensorSpec>& outputs() const noexcept override { return plan_->outputs; }
  std::size_t max_batch() const noexcept override { return plan_->max_batch; }
  bool fixed_batch() const noexcept override { return plan_->fixed; }
  const std::string& device() const noexcept override { return device_; }

 private:
  std::shared_ptr<Plan> plan_;
  std::string device_;
};

/// Compares the engine's own tensors with the manifest, and learns the shapes of the outputs.
void learn_tensors(Plan& plan, const ModelFile& file, const SessionOptions& options) {
  using nvinfer1::DataType;
  const auto refuse = [&](const std::string& what) {
    throw BundleError(in_quotes(file.file) + " does not match the manifest: " + what + ".");
  };
  nvinfer1::ICudaEngine& engine = *plan.engine;
  if (engine.getNbIOTensors() != static_cast<std::int32_t>(1 + file.outputs.size())) refuse("other inputs or outputs");
  const char* name = plan.input_name.c_str();
  if (engine.getTensorIOMode(name) != nvinfer1::TensorIOMode::kINPUT ||
      engine.getTensorDataType(name) != (file.input == InputKind::tensor ? DataType::kFLOAT : DataType::kUINT8))
    refuse("no such input " + in_quotes(plan.input_name));
  nvinfer1::Dims dims = engine.getTensorShape(name);
  if (dims.nbDims != 4) refuse("an input of rank " + std::to_string(dims.nbDims));
  plan.fixed = dims.d[0] > 0;
  const auto highest = engine.getProfileShape(name, 0, nvinfer1::OptProfileSelector::kMAX);
  const std::int64_t limit = plan.fixed ? dims.d[0] : highest.nbDims == 4 ? highest.d[0] : 1;
  if (limit < 1 || limit > 65536) refuse("a batch of " + std::to_string(limit));
  plan.max_batch = plan.fixed ? static_cast<std::size_t>(limit)
                              : std::min(static_cast<std::size_t>(limit), static_cast<std::size_t>(options.max_batch));
  const std::int64_t height = file.preprocessing.height, width = file.preprocessing.width;
  const bool tensor = file.input == InputKind::tensor;
  const std::int64_t shape[3] = {tensor ? 3 : height, tensor ? height : width, tensor ? width : 3};
  for (int i = 0; i < 3; ++i) {
    if (dims.d[i + 1] > 0 && dims.d[i + 1] != shape[i]) refuse("another input size");
    dims.d[i + 1] = static_cast<std::int32_t>(shape[i]);
  }
  dims.d[0] = static_cast<std::int32_t>(plan.max_batch);
  plan.input_dims = dims;

  const std::unique_ptr<nvinfer1::IExecutionContext> probe(engine.createExecutionContext());
  if (!probe || !probe->setInputShape(name, dims))
    throw BackendError("TensorRT does not take the input size of " + in_quotes(file.file) + ": " + logger().last());
  for (const auto& output : file.outputs) {
    const char* key = output.name.c_str();
    if (engine.getTensorIOMode(key) != nvinfer1::TensorIOMode::kOUTPUT ||
        engine.getTensorDataType(key) != DataType::kFLOAT)
      refuse("no float32 output " + in_quotes(output.name));
    const nvinfer1::Dims found = probe->getTensorShape(key);
    if (found.nbDims < 1 || found.d[0] != dims.d[0]) refuse("an output without the batch in front");
    TensorSpec spec{output.name, "float32", {-1}};
    for (int i = 1; i < found.nbDims; ++i) {
      if (found.d[i] < 0) refuse("an output of unknown size");
      spec.shape.push_back(found.d[i]);
    }
    plan.outputs.push_back(std::move(spec));
  }
}

}  // namespace

BackendInfo tensorrt_info() {
  BackendInfo info{"tensorrt", loaded_version(), false, ""};
  std::string reason;
  const int count = device_count(reason);
  info.usable = count > 0;
  info.detail = count > 0 ? "runs TensorRT engines on " + std::to_string(count) + " CUDA device(s)"
                          : "no CUDA device: " + reason;
  return info;
}

void require_tensorrt(const EngineEntry& entry, std::uint64_t bytes, int device) {
  std::string reason;
  const int count = device_count(reason);  // first of all: with no driver, TensorRT itself may crash
  if (count == 0) throw DeviceError("no CUDA device: " + reason);
  if (device >= count)
    throw DeviceError("no CUDA device " + std::to_string(device) + ", only " + std::to_string(count));
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  if (driver / 1000 < runtime / 1000)
    throw DeviceError("the driver supports CUDA " + std::to_string(driver / 1000) + ", this library needs CUDA " +
                      std::to_string(runtime / 1000));
  const auto wanted = [&](const char* key) {
    const auto found = entry.requirements.find(key);
    return found == entry.requirements.end() ? std::string() : found->second;
  };
  const std::string rebuild = "; build it again on this machine with 'linglos-deploy build --engine tensorrt'";
  if (const auto version = wanted("version"); !version.empty() && !version_fits(version, loaded_version()))
    throw DeviceError("built with TensorRT " + version + ", here is " + loaded_version() + rebuild);
  const std::string here = compute_capability(device);
  if (const auto capability = wanted("compute_capability");
      !capability.empty() && !capability_fits(capability, here))
    throw DeviceError("built for compute capability " + capability + ", device " + std::to_string(device) + " has " +
                      here + rebuild);
  check(cudaSetDevice(device), "choosing a device");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  if (free <= bytes)
    throw DeviceError("the engine needs more than " + std::to_string(bytes) + " bytes, device " +
                      std::to_string(device) + " has " + std::to_string(free) + " free");
}

std::unique_ptr<Engine> open_tensorrt(const ModelFile& file, const SessionOptions& options) {
  if (file.data.size() < 4 || std::memcmp(file.data.data(), "ftrt", 4) != 0)
    throw BundleError(in_quotes(file.file) + " does not start like a TensorRT plan.");
  auto plan = std::make_shared<Plan>();
  plan->device = options.device_index;
  plan->file = file.file;
  plan->input_name = file.inputs.front().name;
  plan->image_bytes = input_bytes(file);
  check(cudaSetDevice(plan->device), "choosing a device");
  plan->runtime.reset(nvinfer1::createInferRuntime(logger()));
  if (!plan->runtime) throw BackendError("TensorRT cannot start: " + logger().last());
  plan->runtime->setEngineHostCodeAllowed(false);  // a plan with code of its own would run it here
  plan->engine.reset(plan->runtime->deserializeCudaEngine(file.data.data(), file.data.size()));
  if (!plan->engine) throw BackendError("TensorRT cannot load " + in_quotes(file.file) + ": " + logger().last());
  learn_tensors(*plan, file, options);
  return std::make_unique<TrtEngine>(std::move(plan));
}

}  // namespace linglos::detail
