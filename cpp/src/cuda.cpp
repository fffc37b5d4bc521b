#include "cuda.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#include "files.hpp"
#include "linglos/error.hpp"

namespace linglos::detail {
namespace {

using Result = int;              // CUresult
using Pointer = std::uintptr_t;  // CUdeviceptr: 64 bits on every platform with a current driver
constexpr int kCapabilityMajor = 75;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
constexpr int kCapabilityMinor = 76;
constexpr unsigned int kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING: does not wait for the stream of others

struct Driver {
  Result (*cuInit)(unsigned int);
  Result (*cuGetErrorString)(Result, const char**);
  Result (*cuDeviceGetCount)(int*);
  Result (*cuDeviceGet)(int*, int);
  Result (*cuDeviceGetAttribute)(int*, int, int);
  Result (*cuDevicePrimaryCtxRetain)(void**, int);
  Result (*cuDevicePrimaryCtxRelease_v2)(int);
  Result (*cuCtxPushCurrent_v2)(void*);
  Result (*cuCtxPopCurrent_v2)(void**);
  Result (*cuMemGetInfo_v2)(std::size_t*, std::size_t*);
  Result (*cuMemAlloc_v2)(Pointer*, std::size_t);
  Result (*cuMemFree_v2)(Pointer);
  Result (*cuMemHostAlloc)(void**, std::size_t, unsigned int);
  Result (*cuMemFreeHost)(void*);
  Result (*cuStreamCreate)(CUstream_st**, unsigned int);
  Result (*cuStreamDestroy_v2)(CUstream_st*);
  Result (*cuStreamSynchronize)(CUstream_st*);
  Result (*cuMemcpyHtoDAsync_v2)(Pointer, const void*, std::size_t, CUstream_st*);
  Result (*cuMemcpyDtoHAsync_v2)(void*, Pointer, std::size_t, CUstream_st*);

  std::string text(Result status) const {
    const char* said = nullptr;
    if (cuGetErrorString(status, &said) != 0 || said == nullptr) return "CUDA error " + std::to_string(status);
    return said;
  }
};

/// Loads the driver and starts it. Throws DeviceError with the reason alone.
Driver load_driver() {
  const char* given = std::getenv("LINGLOS_CUDA_LIBRARY");
  const bool named = given != nullptr && *given != '\0';
  const std::string path = named ? given : "libcuda.so.1";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* said = dlerror();
    if (named)
      throw DeviceError("the driver cannot be loaded from " + in_quotes(path) + ", which LINGLOS_CUDA_LIBRARY names: " +
                        (said == nullptr ? "no reason given" : said));
    throw DeviceError("NVIDIA's driver, libcuda.so.1, is not installed");
  }
  Driver driver = {};
  const auto find = [&](auto& function, const char* name) {
    void* address = dlsym(handle, name);
    if (address == nullptr) throw DeviceError(in_quotes(path) + " is not a usable driver: it has no function " + name);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
  };
#define LINGLOS_FIND(name) find(driver.name, #name)
  LINGLOS_FIND(cuInit);
  LINGLOS_FIND(cuGetErrorString);
  LINGLOS_FIND(cuDeviceGetCount);
  LINGLOS_FIND(cuDeviceGet);
  LINGLOS_FIND(cuDeviceGetAttribute);
  LINGLOS_FIND(cuDevicePrimaryCtxRetain);
  LINGLOS_FIND(cuDevicePrimaryCtxRelease_v2);
  LINGLOS_FIND(cuCtxPushCurrent_v2);
  LINGLOS_FIND(cuCtxPopCurrent_v2);
  LINGLOS_FIND(cuMemGetInfo_v2);
  LINGLOS_FIND(cuMemAlloc_v2);
  LINGLOS_FIND(cuMemFree_v2);
  LINGLOS_FIND(cuMemHostAlloc);
  LINGLOS_FIND(cuMemFreeHost);
  LINGLOS_FIND(cuStreamCreate);
  LINGLOS_FIND(cuStreamDestroy_v2);
  LINGLOS_FIND(cuStreamSynchronize);
  LINGLOS_FIND(cuMemcpyHtoDAsync_v2);
  LINGLOS_FIND(cuMemcpyDtoHAsync_v2);
#undef LINGLOS_FIND
  if (const Result status = driver.cuInit(0); status != 0) throw DeviceError(driver.text(status));
  return driver;
}

const Driver& driver() {
  static const Driver instance = load_driver();
  return instance;  // where it throws, the next call tries again
}

void check(Result status, const char* doing) {
  if (status != 0) throw DeviceError(std::string("CUDA failed while ") + doing + ": " + driver().text(status) + ".");
}

Pointer number(const void* pointer) { return reinterpret_cast<Pointer>(pointer); }

}  // namespace

int cuda_device_count(std::string& reason) {
  try {
    int count = 0;
    check(driver().cuDeviceGetCount(&count), "counting devices");
    if (count == 0) reason = "the driver lists none";
    return count;
  } catch (const DeviceError& error) {
    reason = error.what();
    return 0;
  }
}

std::string cuda_compute_capability(int device) {
  int handle = 0, major = 0, minor = 0;
  check(driver().cuDeviceGet(&handle, device), "choosing a device");
  check(driver().cuDeviceGetAttribute(&major, kCapabilityMajor, handle), "asking for the compute capability");
  check(driver().cuDeviceGetAttribute(&minor, kCapabilityMinor, handle), "asking for the compute capability");
  return std::to_string(major) + "." + std::to_string(minor);
}

CudaDevice::CudaDevice(int index) : index_(index) {
  check(driver().cuDeviceGet(&handle_, index), "choosing a device");
  check(driver().cuDevicePrimaryCtxRetain(&context_, handle_), "choosing a device");
}

CudaDevice::~CudaDevice() { driver().cuDevicePrimaryCtxRelease_v2(handle_); }

std::size_t CudaDevice::free_bytes() const {
  const Scope scope(*this);
  std::size_t free = 0, total = 0;
  check(driver().cuMemGetInfo_v2(&free, &total), "asking for free memory");
  return free;
}

CudaDevice::Scope::Scope(const CudaDevice& device) {
  check(driver().cuCtxPushCurrent_v2(device.context_), "choosing a device");
}

CudaDevice::Scope::~Scope() {
  void* popped = nullptr;
  driver().cuCtxPopCurrent_v2(&popped);
}

CudaMemory::CudaMemory(std::shared_ptr<const CudaDevice> device, Place place, std::size_t bytes)
    : device_(std::move(device)), place_(place) {
  const CudaDevice::Scope scope(*device_);
  if (place == Place::device) {
    Pointer address = 0;
    check(driver().cuMemAlloc_v2(&address, bytes), "allocating device memory");
    data_ = reinterpret_cast<void*>(address);
  } else {
    check(driver().cuMemHostAlloc(&data_, bytes, 0), "allocating pinned memory");
    std::memset(data_, 0, bytes);
  }
}

CudaMemory::~CudaMemory() {
  if (data_ == nullptr) return;
  quietly_on(*device_, [&] {
    if (place_ == Place::device)
      driver().cuMemFree_v2(number(data_));
    else
      driver().cuMemFreeHost(data_);
  });
}

CudaMemory::CudaMemory(CudaMemory&& other) noexcept
    : device_(other.device_), place_(other.place_), data_(std::exchange(other.data_, nullptr)) {}

CudaStream::CudaStream(std::shared_ptr<const CudaDevice> device) : device_(std::move(device)) {
  const CudaDevice::Scope scope(*device_);
  check(driver().cuStreamCreate(&value_, kNonBlocking), "creating a stream");
}

CudaStream::~CudaStream() {
  quietly_on(*device_, [&] { driver().cuStreamDestroy_v2(value_); });
}

void CudaStream::copy_in(const CudaMemory& to, const CudaMemory& from, std::size_t bytes) {
  check(driver().cuMemcpyHtoDAsync_v2(number(to.get()), from.get(), bytes, value_), "copying the input");
}

void CudaStream::copy_out(const CudaMemory& to, const CudaMemory& from, std::size_t bytes) {
  check(driver().cuMemcpyDtoHAsync_v2(to.get(), number(from.get()), bytes, value_), "copying an output");
}

void CudaStream::wait() { check(driver().cuStreamSynchronize(value_), "running"); }

void CudaStream::wait_quietly() noexcept { (void)driver().cuStreamSynchronize(value_); }

}  // namespace linglos::detail
