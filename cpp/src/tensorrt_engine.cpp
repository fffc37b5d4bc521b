// Plans of TensorRT, through the calls that 10.x, 11.x and TensorRT-RTX have. Compiled once with the headers of each
// release, which CMake names in LINGLOS_TENSORRT_MAJOR.
#define LINGLOS_JOIN2(a, b) a##b
#define LINGLOS_JOIN(a, b) LINGLOS_JOIN2(a, b)
// The inline functions of both releases have the same names and call through different tables: one program must not
// mix them up.
#define nvinfer1 LINGLOS_JOIN(nvinfer1_of_, LINGLOS_TENSORRT_MAJOR)
#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <utility>
#include <vector>

#include "files.hpp"
#include "tensorrt.hpp"

static_assert(NV_TENSORRT_MAJOR == LINGLOS_TENSORRT_MAJOR, "these are the headers of another release");

namespace linglos::detail::LINGLOS_JOIN(tensorrt_, LINGLOS_TENSORRT_MAJOR) {
namespace {

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

/// Ends an object of TensorRT while its device is current.
struct EndOnDevice {
  std::shared_ptr<const CudaDevice> device;
  template <typename T>
  void operator()(T* object) const noexcept {
    quietly_on(*device, [&] { delete object; });
  }
};
template <typename T>
using OnDevice = std::unique_ptr<T, EndOnDevice>;

struct Plan {
  std::shared_ptr<const CudaDevice> device;
  std::string title;
  OnDevice<nvinfer1::IRuntime> runtime;
  OnDevice<nvinfer1::ICudaEngine> engine;  // after its runtime: it ends first
  std::string file;
  std::string input_name;
  nvinfer1::Dims input_dims = {};
  std::size_t image_bytes = 0;
  std::size_t max_batch = 0;
  bool fixed = false;
  std::vector<TensorSpec> outputs;

  explicit Plan(const std::shared_ptr<const CudaDevice>& on)
      : device(on), runtime(nullptr, EndOnDevice{on}), engine(nullptr, EndOnDevice{on}) {}

  [[noreturn]] void fail(const char* doing) const {
    throw BackendError(title + " failed while " + doing + " " + in_quotes(file) + ": " + logger().last());
  }
};

class PlanContext final : public Context {
 public:
  explicit PlanContext(std::shared_ptr<const Plan> plan)
      : plan_(std::move(plan)),
        device_input_(plan_->device, CudaMemory::Place::device, plan_->max_batch * plan_->image_bytes),
        input_(plan_->device, CudaMemory::Place::host, plan_->max_batch * plan_->image_bytes),
        stream_(plan_->device),
        context_(nullptr, EndOnDevice{plan_->device}) {
    const CudaDevice::Scope scope(*plan_->device);
    context_.reset(plan_->engine->createExecutionContext());
    if (!context_) plan_->fail("creating a context for");
    bool bound = context_->setInputTensorAddress(plan_->input_name.c_str(), device_input_.get());
    for (const auto& output : plan_->outputs) {
      const std::size_t bytes = plan_->max_batch * values_per_image(output) * sizeof(float);
      device_outputs_.emplace_back(plan_->device, CudaMemory::Place::device, bytes);
      outputs_.emplace_back(plan_->device, CudaMemory::Place::host, bytes);
      bound = bound && context_->setTensorAddress(output.name.c_str(), device_outputs_.back().get());
    }
    if (!bound) plan_->fail("binding the buffers of");
  }

  void* input() noexcept override { return input_.get(); }
  const float* output(std::size_t index) const noexcept override {
    return static_cast<const float*>(outputs_[index].get());
  }

  void run(std::size_t batch) override {
    const CudaDevice::Scope scope(*plan_->device);  // per thread
    try {
      enqueue(batch);
      stream_.wait();
    } catch (const Error&) {
      stream_.wait_quietly();  // copies that are queued use memory that the caller may let go now
      throw;
    }
  }

 private:
  void enqueue(std::size_t batch) {
    if (batch != batch_) {
      batch_ = 0;  // until it is set
      auto dims = plan_->input_dims;
      dims.d[0] = static_cast<std::int32_t>(batch);
      if (!context_->setInputShape(plan_->input_name.c_str(), dims)) plan_->fail("setting the batch size of");
      batch_ = batch;
    }
    stream_.copy_in(device_input_, input_, batch * plan_->image_bytes);
    if (!context_->enqueueV3(stream_.get())) plan_->fail("running");
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      stream_.copy_out(outputs_[i], device_outputs_[i], batch * values_per_image(plan_->outputs[i]) * sizeof(float));
  }

  std::shared_ptr<const Plan> plan_;
  CudaMemory device_input_;
  CudaMemory input_;
  std::vector<CudaMemory> device_outputs_;
  std::vector<CudaMemory> outputs_;
  CudaStream stream_;  // after the memory: it ends first
  OnDevice<nvinfer1::IExecutionContext> context_;
  std::size_t batch_ = 0;
};

class PlanEngine final : public Engine {
 public:
  explicit PlanEngine(std::shared_ptr<const Plan> plan)
      : plan_(std::move(plan)), device_("cuda:" + std::to_string(plan_->device->index())) {}
  std::unique_ptr<Context> create_context() override { return std::make_unique<PlanContext>(plan_); }
  const std::vector<TensorSpec>& outputs() const noexcept override { return plan_->outputs; }
  std::size_t max_batch() const noexcept override { return plan_->max_batch; }
  bool fixed_batch() const noexcept override { return plan_->fixed; }
  const std::string& device() const noexcept override { return device_; }

 private:
  std::shared_ptr<const Plan> plan_;
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
  if (!probe || !probe->setInputShape(name, dims)) plan.fail("setting the input size of");
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

std::unique_ptr<Engine> open_plan(const TensorRtLibrary& library, std::shared_ptr<const CudaDevice> device,
                                  const ModelFile& file, const SessionOptions& options) {
  const CudaDevice::Scope scope(*device);
  auto plan = std::make_shared<Plan>(device);
  plan->title = library.title + " " + library.version;
  plan->file = file.file;
  plan->input_name = file.inputs.front().name;
  plan->image_bytes = input_bytes(file);
  plan->runtime.reset(static_cast<nvinfer1::IRuntime*>(library.create_runtime(&logger(), library.number)));
  if (!plan->runtime) plan->fail("starting, before it could load");
  plan->runtime->setEngineHostCodeAllowed(false);  // a plan with code of its own would run it here
  plan->engine.reset(plan->runtime->deserializeCudaEngine(file.data.data(), file.data.size()));
  if (!plan->engine) plan->fail("loading");
  learn_tensors(*plan, file, options);
  return std::make_unique<PlanEngine>(std::move(plan));
}

}
