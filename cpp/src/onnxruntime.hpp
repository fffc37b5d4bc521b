// The ONNX Runtime adapter with its API table passed in, so that a test can watch the calls.
#pragma once

#include <onnxruntime_c_api.h>

#include "backend.hpp"

namespace linglos::detail {

const OrtApi* onnxruntime_api();
std::unique_ptr<Engine> open_onnxruntime(const ModelFile& model, const SessionOptions& options, bool cuda,
                                         const OrtApi* api);

}  // namespace linglos::detail
