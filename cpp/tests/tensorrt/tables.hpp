// Where a virtual function stands in its table, from the headers that this is compiled with.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstring>

namespace tables {

/// Index of a virtual function of a class without virtual bases (Itanium C++ ABI, section 2.3; AArch64 keeps the mark of
/// a virtual function elsewhere).
template <typename Method>
std::size_t slot(Method method) {
  struct {
    std::ptrdiff_t pointer, adjustment;
  } raw;
  static_assert(sizeof raw == sizeof method);
  std::memcpy(&raw, &method, sizeof raw);
#if defined(__aarch64__)
  return static_cast<std::size_t>(raw.pointer) / sizeof(void*);
#else
  return static_cast<std::size_t>(raw.pointer - 1) / sizeof(void*);
#endif
}

/// Calls `visit` with every function of TensorRT that the adapter uses, by name; of two of one name, the one it calls.
template <typename Visitor>
void visit_used(Visitor&& visit) {
  using namespace nvinfer1;
  using namespace nvinfer1::apiv;
  ICudaEngine* (VRuntime::*deserialize)(const void*, std::size_t) noexcept = &VRuntime::deserializeCudaEngine;
  visit("VRuntime::deserializeCudaEngine", deserialize);
  visit("VRuntime::setEngineHostCodeAllowed", &VRuntime::setEngineHostCodeAllowed);
  visit("VCudaEngine::getNbIOTensors", &VCudaEngine::getNbIOTensors);
  visit("VCudaEngine::getTensorIOMode", &VCudaEngine::getTensorIOMode);
  visit("VCudaEngine::getTensorDataType", &VCudaEngine::getTensorDataType);
  visit("VCudaEngine::getTensorShape", &VCudaEngine::getTensorShape);
  visit("VCudaEngine::getProfileShape", &VCudaEngine::getProfileShape);
  visit("VCudaEngine::createExecutionContext", &VCudaEngine::createExecutionContext);
  visit("VExecutionContext::setInputTensorAddress", &VExecutionContext::setInputTensorAddress);
  visit("VExecutionContext::setTensorAddress", &VExecutionContext::setTensorAddress);
  visit("VExecutionContext::setInputShape", &VExecutionContext::setInputShape);
  visit("VExecutionContext::getTensorShape", &VExecutionContext::getTensorShape);
  visit("VExecutionContext::enqueueV3", &VExecutionContext::enqueueV3);
}

}  // namespace tables
