// The ONNX Runtime adapter with its API table in the open, so that a test can watch the calls.
#pragma once

#include <onnxruntime_c_api.h>

#include "backend.hpp"

namespace linglos::detail {

const OrtApi* onnxruntime_api();
/// Lets a test watch every call of every session from now on; null ends it.
void replace_onnxruntime_api(const OrtApi* api) noexcept;
std::unique_ptr<Engine> open_onnxruntime(const ModelFile& model, const SessionOptions& options, bool cuda,
                                         const OrtApi* api);

}  // namespace linglos::detail
