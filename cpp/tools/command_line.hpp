// What the three tools share: options, JSON text and exit codes, which are those of the command linglos-deploy.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "linglos/linglos.hpp"

namespace linglos::tools {

constexpr int kPassed = 0, kFailedVerdict = 1, kUsage = 2, kMissing = 3, kFailed = 4;

inline int exit_code(const Error& error) {
  switch (error.code()) {
    case ErrorCode::usage: return kUsage;
    case ErrorCode::device: return kMissing;
    default: return kFailed;
  }
}

inline int whole_number(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0 || value > 1000000000)
    throw UsageError(option + " takes a whole number, found '" + text + "'.");
  return static_cast<int>(value);
}

/// The arguments, taken one by one.
class Arguments {
 public:
  Arguments(int argc, char** argv) : words_(argv + 1, argv + argc) {}
  bool empty() const { return next_ == words_.size(); }
  std::string take() { return words_[next_++]; }
  std::string value(const std::string& option) {
    if (empty()) throw UsageError(option + " needs a value.");
    return take();
  }

 private:
  std::vector<std::string> words_;
  std::size_t next_ = 0;
};

constexpr const char* kSessionHelp =
    "  --backend auto|onnxruntime|openvino|tensorrt|tensorrt-rtx  what runs the model (auto)\n"
    "  --device auto|cpu|cuda|cuda:N         where (auto)\n"
    "  --precision P                         fp32, fp16, bf16, int8 or int8+fp16 (the best engine, else fp32)\n"
    "  --threads N                           threads of one run on the CPU, 0 for the backend's choice (0)\n"
    "  --json                                JSON instead of text\n";

/// Handles an option that decides how the session is opened; returns false for any other.
inline bool session_option(const std::string& word, Arguments& arguments, SessionOptions& options) {
  if (word == "--threads") {
    options.threads = whole_number(word, arguments.value(word));
  } else if (word == "--precision") {
    options.precision = arguments.value(word);
  } else if (word == "--backend") {
    const std::string name = arguments.value(word);
    if (name == "auto") options.backend = BackendKind::automatic;
    else if (name == "onnxruntime") options.backend = BackendKind::onnxruntime;
    else if (name == "tensorrt") options.backend = BackendKind::tensorrt;
    else if (name == "tensorrt-rtx") options.backend = BackendKind::tensorrt_rtx;
    else if (name == "openvino") options.backend = BackendKind::openvino;
    else throw UsageError("--backend takes auto, onnxruntime, openvino, tensorrt or tensorrt-rtx, found '" + name + "'.");
  } else if (word == "--device") {
    const std::string name = arguments.value(word);
    if (name == "auto") options.device = DeviceKind::automatic;
    else if (name == "cpu") options.device = DeviceKind::cpu;
    else if (name == "cuda" || name.rfind("cuda:", 0) == 0) {
      options.device = DeviceKind::cuda;
      if (name.size() > 5) options.device_index = whole_number(word, name.substr(5));
    } else throw UsageError("--device takes auto, cpu, cuda or cuda:N, found '" + name + "'.");
  } else {
    return false;
  }
  return true;
}

inline std::string json(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

inline std::string json(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  const std::string found = text;
  return found.find_first_of("ni") == std::string::npos ? found : "null";  // JSON has no inf and no nan
}

inline std::string json(bool value) { return value ? "true" : "false"; }

/// Runs a tool's body and turns errors into a message on stderr and an exit code.
template <typename Body>
int guarded(const char* tool, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: error: %s\n", tool, error.what());
    return exit_code(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: error: %s\n", tool, error.what());
    return kFailed;
  }
}

}  // namespace linglos::tools
