// NVIDIA's driver, loaded when first needed: devices, streams and memory, through the driver API.
//
// No header of CUDA is used: the handles are opaque, and the functions have kept their signatures since CUDA 4
// (https://docs.nvidia.com/cuda/cuda-driver-api).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct CUstream_st;

namespace linglos::detail {

/// Number of devices; 0 with a reason where there is no driver, or one that does not work. Never throws DeviceError.
int cuda_device_count(std::string& reason);

/// "8.9" of a device that exists.
std::string cuda_compute_capability(int device);

/// The context that every user of a device shares, kept alive.
class CudaDevice {
 public:
  explicit CudaDevice(int index);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  int index() const noexcept { return index_; }
  std::size_t free_bytes() const;

  /// Makes the device current on this thread for its lifetime, then the one that was current before.
  class Scope {
   public:
    explicit Scope(const CudaDevice& device);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

 private:
  int index_;
  int handle_ = 0;
  void* context_ = nullptr;
};

/// Gives something of the device back; where that fails the device is gone, and all that was on it.
template <typename Release>
void quietly_on(const CudaDevice& device, Release&& release) noexcept {
  try {
    const CudaDevice::Scope scope(device);
    release();
  } catch (...) {
  }
}

/// Memory of the device, or memory of the host that the device copies from and to without a detour.
class CudaMemory {
 public:
  enum class Place { device, host };
  CudaMemory(std::shared_ptr<const CudaDevice> device, Place place, std::size_t bytes);
  ~CudaMemory();
  CudaMemory(CudaMemory&& other) noexcept;
  CudaMemory& operator=(CudaMemory&&) = delete;
  void* get() const noexcept { return data_; }

 private:
  std::shared_ptr<const CudaDevice> device_;
  Place place_;
  void* data_ = nullptr;
};

/// A queue of work on the device. All calls need the device to be current.
class CudaStream {
 public:
  explicit CudaStream(std::shared_ptr<const CudaDevice> device);
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  CUstream_st* get() const noexcept { return value_; }
  void copy_in(const CudaMemory& to, const CudaMemory& from, std::size_t bytes);
  void copy_out(const CudaMemory& to, const CudaMemory& from, std::size_t bytes);
  void wait();
  void wait_quietly() noexcept;

 private:
  std::shared_ptr<const CudaDevice> device_;
  CUstream_st* value_ = nullptr;
};

}  // namespace linglos::detail
