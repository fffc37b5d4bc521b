// What the objects for TensorRT 10 and for TensorRT 11 offer. Both are compiled from tensorrt_engine.cpp, each against
// headers of its release; this header names neither.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend.hpp"
#include "cuda.hpp"

namespace linglos::detail {

/// A runtime library that was opened and whose release is known to fit an object of this build.
struct TensorRtLibrary {
  std::string title;    ///< `TensorRT` or `TensorRT-RTX`.
  std::string version;  ///< `11.4.0`.
  int number = 0;       ///< As getInferLibVersion() gives it.
  void* (*create_runtime)(void* logger, std::int32_t version) = nullptr;
};

/// Deserializes a plan. The device, the release and the plan's first bytes have been checked.
using OpenPlan = std::unique_ptr<Engine>(const TensorRtLibrary& library, std::shared_ptr<const CudaDevice> device,
                                         const ModelFile& file, const SessionOptions& options);

namespace tensorrt_10 {
OpenPlan open_plan;
}
namespace tensorrt_11 {
OpenPlan open_plan;
}

}  // namespace linglos::detail
