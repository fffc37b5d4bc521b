// A driver and a runtime of TensorRT without a GPU, in one library: the real tables, filled where the adapter calls.
//
// Its streams are queues: what is copied or run happens when somebody waits for the stream, or when it ends, and not
// before. Its device pointers cannot be followed by the host. Releases are told by LINGLOS_FAKE_VERSION.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "fake.h"
#include "tables.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace nvinfer1;
using namespace nvinfer1::apiv;

struct {
  std::atomic<long> runtimes{0}, engines{0}, contexts{0}, streams{0}, memories{0}, devices{0}, misuses{0}, runs{0};
} counts;
std::atomic<long> fail_after{-1};
thread_local std::vector<void*> current;

bool fails() {
  if (fail_after.load() < 0) return false;
  return fail_after.fetch_sub(1) == 0;
}

void misuse(const char* what) {
  std::fprintf(stderr, "fake: %s\n", what);
  ++counts.misuses;
}

void expect_current(const char* where) {
  if (current.empty()) misuse(where);
}

constexpr std::uintptr_t kDeviceBit = std::uintptr_t{1} << 62;

/// The host memory behind a device pointer.
template <typename T>
T* behind(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if ((address & kDeviceBit) == 0) {
    misuse("a host pointer where the device's is needed");
    return static_cast<T*>(const_cast<void*>(pointer));
  }
  return reinterpret_cast<T*>(address & ~kDeviceBit);
}

}  // namespace

struct CUstream_st {
  std::mutex mutex;
  std::vector<std::function<void()>> queued;
  void finish() {
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& work : queued) work();
    queued.clear();
  }
  void push(std::function<void()> work) {
    const std::lock_guard<std::mutex> lock(mutex);
    queued.push_back(std::move(work));
  }
};

// ---- the driver ----

constexpr int kFailed = 2;  // CUDA_ERROR_OUT_OF_MEMORY
int device_context;         // its address is the primary context

EXPORT int cuInit(unsigned int) { return std::getenv("LINGLOS_FAKE_OLD_DRIVER") != nullptr ? 803 : 0; }
EXPORT int cuGetErrorString(int error, const char** text) {
  *text = error == kFailed ? "planted" : "system has unsupported display driver / cuda driver combination";
  return 0;
}
EXPORT int cuDeviceGetCount(int* count) {
  if (fails()) return kFailed;
  const char* given = std::getenv("LINGLOS_FAKE_DEVICES");
  *count = given == nullptr ? 1 : std::atoi(given);
  return 0;
}
EXPORT int cuDeviceGet(int* device, int index) {
  *device = 40 + index;  // a handle, not the index
  return fails() ? kFailed : 0;
}
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (device != 40) misuse("an index where a handle is needed");
  *value = attribute == 75 ? 8 : 9;
  return fails() ? kFailed : 0;
}
EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (device != 40) misuse("an index where a handle is needed");
  if (fails()) return kFailed;
  *context = &device_context;
  ++counts.devices;
  return 0;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) {
  --counts.devices;
  return 0;
}
EXPORT int cuCtxPushCurrent_v2(void* context) {
  if (context != &device_context || counts.devices == 0) misuse("an unknown context");
  current.push_back(context);
  return 0;
}
EXPORT int cuCtxPopCurrent_v2(void** context) {
  if (current.empty()) {
    misuse("a context too often given back");
    return 201;
  }
  *context = current.back();
  current.pop_back();
  return 0;
}
EXPORT int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  expect_current("memory asked for without a device");
  *free = std::size_t{1} << 30;
  *total = std::size_t{1} << 31;
  return fails() ? kFailed : 0;
}
EXPORT int cuMemAlloc_v2(std::uintptr_t* address, std::size_t bytes) {
  expect_current("memory without a device");
  if (fails() || bytes == 0) return kFailed;
  *address = reinterpret_cast<std::uintptr_t>(std::malloc(bytes)) | kDeviceBit;
  ++counts.memories;
  return 0;
}
EXPORT int cuMemFree_v2(std::uintptr_t address) {
  expect_current("memory freed without a device");
  std::free(behind<void>(reinterpret_cast<void*>(address)));
  --counts.memories;
  return 0;
}
EXPORT int cuMemHostAlloc(void** address, std::size_t bytes, unsigned int) {
  expect_current("memory without a device");
  if (fails() || bytes == 0) return kFailed;
  *address = std::malloc(bytes);
  ++counts.memories;
  return 0;
}
EXPORT int cuMemFreeHost(void* address) {
  expect_current("memory freed without a device");
  std::free(address);
  --counts.memories;
  return 0;
}
EXPORT int cuStreamCreate(CUstream_st** stream, unsigned int flags) {
  expect_current("a stream without a device");
  if (flags != 1) misuse("a stream that waits for others");
  if (fails()) return kFailed;
  *stream = new CUstream_st;
  ++counts.streams;
  return 0;
}
EXPORT int cuStreamDestroy_v2(CUstream_st* stream) {
  stream->finish();  // the real one lets it finish too
  delete stream;
  --counts.streams;
  return 0;
}
EXPORT int cuStreamSynchronize(CUstream_st* stream) {
  expect_current("a stream waited for without a device");
  stream->finish();
  return fails() ? kFailed : 0;
}
EXPORT int cuMemcpyHtoDAsync_v2(std::uintptr_t to, const void* from, std::size_t bytes, CUstream_st* stream) {
  expect_current("a copy without a device");
  if (fails()) return kFailed;
  stream->push([=] { std::memcpy(behind<void>(reinterpret_cast<void*>(to)), from, bytes); });
  return 0;
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, std::uintptr_t from, std::size_t bytes, CUstream_st* stream) {
  expect_current("a copy without a device");
  if (fails()) return kFailed;
  stream->push([=] { std::memcpy(to, behind<void>(reinterpret_cast<void*>(from)), bytes); });
  return 0;
}

// ---- the runtime ----

namespace {

[[noreturn]] void unexpected() {
  std::fputs("fake: a function that the adapter is not known to call\n", stderr);
  std::abort();
}

/// A table of functions as the compiler lays it out for a class of TensorRT's.
class Table {
 public:
  Table() { for (void*& entry : entries_) entry = reinterpret_cast<void*>(&unexpected); }
  template <typename Class, typename Result, typename... Arguments>
  Table& set(Result (Class::*method)(Arguments...) noexcept, Result (*function)(Class*, Arguments...)) {
    entries_[tables::slot(method)] = reinterpret_cast<void*>(function);
    return *this;
  }
  template <typename Class, typename Result, typename... Arguments>
  Table& set(Result (Class::*method)(Arguments...) const noexcept, Result (*function)(const Class*, Arguments...)) {
    entries_[tables::slot(method)] = reinterpret_cast<void*>(function);
    return *this;
  }
  void* const* entries() const { return entries_; }

 private:
  void* entries_[128];
};

/// What stands where TensorRT has its implementation: the pointer to the table comes first.
struct Object {
  void* const* table;
  void* owner;
};

template <typename Implementation>
Implementation* as(Object& object) {
  return reinterpret_cast<Implementation*>(&object);
}

template <typename Owner, typename Implementation>
Owner& owner(Implementation* object) {
  using Plain = std::remove_const_t<Implementation>;
  return *static_cast<Owner*>(reinterpret_cast<Object*>(const_cast<Plain*>(object))->owner);
}

ILogger* told = nullptr;

std::nullptr_t refuse(const char* why) {
  told->log(ILogger::Severity::kERROR, why);
  return nullptr;
}

Dims dims_of(std::vector<int> sizes) {
  Dims dims = {};
  dims.nbDims = static_cast<std::int32_t>(sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) dims.d[i] = sizes[i];
  return dims;
}

Dims input_dims(const fake_plan& plan, int batch) {
  return plan.pixels != 0 ? dims_of({batch, plan.height, plan.width, 3}) : dims_of({batch, 3, plan.height, plan.width});
}

class FakeContext final : public IExecutionContext {
 public:
  explicit FakeContext(const fake_plan& plan) : plan_(plan), batch_(plan.batch) {
    static const Table table = make_table();
    object_ = {table.entries(), this};
    mImpl = as<VExecutionContext>(object_);
    ++counts.contexts;
  }
  ~FakeContext() noexcept override {
    expect_current("a context ended without a device");
    --counts.contexts;
  }

 private:
  static Table make_table() {
    Table table;
    table
        .set(&VExecutionContext::setInputTensorAddress, +[](VExecutionContext* self, char const* name, void const* data) {
          auto& own = owner<FakeContext>(self);
          own.input_ = data;
          return std::string(name) == "image" && !fails();
        })
        .set(&VExecutionContext::setTensorAddress, +[](VExecutionContext* self, char const* name, void* data) {
          auto& own = owner<FakeContext>(self);
          own.output_ = data;
          return std::string(name) == "logits" && !fails();
        })
        .set(&VExecutionContext::setInputShape, +[](VExecutionContext* self, char const*, Dims const& dims) {
          auto& own = owner<FakeContext>(self);
          if (fails() || (own.plan_.batch > 0 && dims.d[0] != own.plan_.batch) || dims.d[0] > own.plan_.max_batch) {
            refuse("a shape that the plan does not take");
            return false;
          }
          own.batch_ = static_cast<int>(dims.d[0]);
          return true;
        })
        .set(&VExecutionContext::getTensorShape, +[](const VExecutionContext* self, char const*) {
          auto& own = owner<FakeContext>(self);
          return dims_of({own.batch_, own.plan_.values});
        })
        .set(&VExecutionContext::enqueueV3, +[](VExecutionContext* self, cudaStream_t stream) {
          auto& own = owner<FakeContext>(self);
          expect_current("run without a device");
          if (fails()) {
            refuse("planted");
            return false;
          }
          stream->push([&own, batch = own.batch_] { own.run(batch); });
          return true;
        });
    return table;
  }

  void run(int batch) {
    const std::size_t values = std::size_t{3} * static_cast<std::size_t>(plan_.height * plan_.width);
    for (int image = 0; image < batch; ++image) {
      float sum = 0;
      const std::size_t first = static_cast<std::size_t>(image) * values;
      for (std::size_t i = 0; i < values; ++i)
        sum += plan_.pixels != 0 ? behind<std::uint8_t>(input_)[first + i] : behind<float>(input_)[first + i];
      for (int k = 0; k < plan_.values; ++k)
        behind<float>(output_)[image * plan_.values + k] = sum * static_cast<float>(k + 1);
    }
    ++counts.runs;
  }

  Object object_;
  fake_plan plan_;
  int batch_;
  const void* input_ = nullptr;
  void* output_ = nullptr;
};

class FakeEngine final : public ICudaEngine {
 public:
  explicit FakeEngine(const fake_plan& plan) : plan_(plan) {
    static const Table table = make_table();
    object_ = {table.entries(), this};
    mImpl = as<VCudaEngine>(object_);
    ++counts.engines;
  }
  ~FakeEngine() noexcept override {
    if (counts.contexts != 0) misuse("an engine ended before its contexts");
    --counts.engines;
  }

 private:
  static Table make_table() {
    Table table;
    table.set(&VCudaEngine::getNbIOTensors, +[](const VCudaEngine*) { return std::int32_t{2}; })
        .set(&VCudaEngine::getTensorIOMode, +[](const VCudaEngine*, char const* name) {
          const std::string given = name;
          return given == "image" ? TensorIOMode::kINPUT : given == "logits" ? TensorIOMode::kOUTPUT : TensorIOMode::kNONE;
        })
        .set(&VCudaEngine::getTensorDataType, +[](const VCudaEngine* self, char const* name) {
          const bool pixels = owner<FakeEngine>(self).plan_.pixels != 0;
          return std::string(name) == "image" && pixels ? DataType::kUINT8 : DataType::kFLOAT;
        })
        .set(&VCudaEngine::getTensorShape, +[](const VCudaEngine* self, char const*) {
          auto& own = owner<FakeEngine>(self);
          return input_dims(own.plan_, own.plan_.batch);
        })
        .set(&VCudaEngine::getProfileShape, +[](const VCudaEngine* self, char const*, std::int32_t, OptProfileSelector select) {
          auto& own = owner<FakeEngine>(self);
          return input_dims(own.plan_, select == OptProfileSelector::kMAX ? own.plan_.max_batch : 1);
        })
        .set(&VCudaEngine::createExecutionContext,
             +[](VCudaEngine* self, ExecutionContextAllocationStrategy) -> IExecutionContext* {
               expect_current("a context without a device");
               if (fails()) return refuse("planted");
               return new FakeContext(owner<FakeEngine>(self).plan_);
             });
    return table;
  }

  Object object_;
  fake_plan plan_;
};

#ifdef FAKE_RTX
constexpr const char* kMagic = "vtrt";
#else
constexpr const char* kMagic = "ftrt";
#endif

class FakeRuntime final : public IRuntime {
 public:
  FakeRuntime() {
    static const Table table = make_table();
    object_ = {table.entries(), this};
    mImpl = as<VRuntime>(object_);
    ++counts.runtimes;
  }
  ~FakeRuntime() noexcept override {
    if (counts.engines != 0) misuse("a runtime ended before its engines");
    --counts.runtimes;
  }

 private:
  static Table make_table() {
    ICudaEngine* (VRuntime::*deserialize)(const void*, std::size_t) noexcept = &VRuntime::deserializeCudaEngine;
    Table table;
    table
        .set(deserialize, +[](VRuntime* self, const void* data, std::size_t size) -> ICudaEngine* {
          expect_current("a plan without a device");
          if (owner<FakeRuntime>(self).host_code_) misuse("a plan with host code would run it");
          if (fails()) return refuse("planted");
          fake_plan plan = {};
          if (size < sizeof plan) return refuse("the plan is cut off");
          std::memcpy(&plan, data, sizeof plan);
          if (std::memcmp(plan.magic, kMagic, 4) != 0) return refuse("not a plan of this product");
          return new FakeEngine(plan);
        })
        .set(&VRuntime::setEngineHostCodeAllowed,
             +[](VRuntime* self, bool allowed) { owner<FakeRuntime>(self).host_code_ = allowed; });
    return table;
  }

  Object object_;
  bool host_code_ = true;
};

std::vector<int> version() {
#ifdef FAKE_RTX
  std::vector<int> numbers = {1, 7, 1};
#else
  std::vector<int> numbers = {NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH};
#endif
  if (const char* given = std::getenv("LINGLOS_FAKE_VERSION"))
    std::sscanf(given, "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2]);
  return numbers;
}

}  // namespace

EXPORT std::int32_t getInferLibMajorVersion() noexcept { return version()[0]; }
EXPORT std::int32_t getInferLibMinorVersion() noexcept { return version()[1]; }
EXPORT std::int32_t getInferLibPatchVersion() noexcept { return version()[2]; }
EXPORT std::int32_t getInferLibVersion() noexcept {
  const auto numbers = version();
  return numbers[0] * 10000 + numbers[1] * 100 + numbers[2];
}
EXPORT void* createInferRuntime_INTERNAL(void* logger, std::int32_t asked) noexcept {
  expect_current("a runtime without a device");
  if (asked != getInferLibVersion()) misuse("a runtime of another release");
  told = static_cast<ILogger*>(logger);
  if (fails()) return refuse("planted");
  return static_cast<IRuntime*>(new FakeRuntime);
}

EXPORT long fake_fail_after(long left) { return fail_after.exchange(left); }
EXPORT fake_counts fake_count() {
  return {counts.runtimes, counts.engines, counts.contexts, counts.streams, counts.memories, counts.devices,
          static_cast<long>(current.size()), counts.misuses, counts.runs};
}
