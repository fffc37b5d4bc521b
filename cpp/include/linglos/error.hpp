// Every error this library raises on purpose.
#pragma once

#include <stdexcept>
#include <string>

#include "linglos/export.h"

namespace linglos {

/// What kind of thing went wrong; the numbers are those of linglos.h.
enum class ErrorCode : int {
  usage = 1,    ///< The call itself cannot be carried out: a bad option or argument.
  bundle = 2,   ///< The bundle is damaged, tampered with, or of another schema.
  device = 3,   ///< The device is missing or does not fit: no GPU, no driver, another compute capability.
  backend = 4,  ///< A backend is missing from this build, or failed while it loaded or ran a model.
  io = 5,       ///< The operating system refused to read something.
  internal = 6,  ///< A bug in this library, or no memory left.
  busy = 7       ///< More was submitted than the queue takes.
};

/// Base of all errors of this library: what was found, what was expected, what to do next.
class LINGLOS_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ~Error() override;  // out of line: the type information lives in one place

  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

class LINGLOS_API UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(ErrorCode::usage, message) {}
  ~UsageError() override;
};

class LINGLOS_API BundleError : public Error {
 public:
  explicit BundleError(const std::string& message) : Error(ErrorCode::bundle, message) {}
  ~BundleError() override;
};

class LINGLOS_API DeviceError : public Error {
 public:
  explicit DeviceError(const std::string& message) : Error(ErrorCode::device, message) {}
  ~DeviceError() override;
};

class LINGLOS_API BackendError : public Error {
 public:
  explicit BackendError(const std::string& message) : Error(ErrorCode::backend, message) {}
  ~BackendError() override;
};

class LINGLOS_API IoError : public Error {
 public:
  explicit IoError(const std::string& message) : Error(ErrorCode::io, message) {}
  ~IoError() override;
};

class LINGLOS_API BusyError : public Error {
 public:
  explicit BusyError(const std::string& message) : Error(ErrorCode::busy, message) {}
  ~BusyError() override;
};

}  // namespace linglos
