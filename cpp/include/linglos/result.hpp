// The same library without exceptions: every function here returns what was found, or why not. For programs that are
// compiled with -fno-exceptions, and for those that want errors as values.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "linglos/bundle.hpp"
#include "linglos/error.hpp"
#include "linglos/export.h"
#include "linglos/session.hpp"

namespace linglos {

/// What an Error says.
struct Failure {
  ErrorCode code = ErrorCode::internal;
  std::string message;
};

/// A value, or why there is none. Looking at the one that is not there is a bug, and ends the program.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                // NOLINT(google-explicit-constructor): return value;
  Result(Failure failure) : failure_(std::move(failure)) {}    // NOLINT(google-explicit-constructor)

  explicit operator bool() const noexcept { return value_.has_value(); }
  T& value() & noexcept { return *checked(value_); }
  const T& value() const& noexcept { return *checked(value_); }
  T&& value() && noexcept { return std::move(*checked(value_)); }
  const Failure& failure() const noexcept { return *checked(failure_); }

 private:
  template <typename Optional>
  static Optional& checked(Optional& held) noexcept {
    if (!held.has_value()) std::terminate();
    return held;
  }

  std::optional<T> value_;
  std::optional<Failure> failure_;
};

/// For functions that return nothing.
struct Done {};

/// Bundle::open.
LINGLOS_API Result<Bundle> try_open(const std::string& path) noexcept;

/// The constructor of Session.
LINGLOS_API Result<Session> try_session(const Bundle& bundle, const SessionOptions& options = {}) noexcept;

/// Session::run, into `outputs`.
LINGLOS_API Result<Done> try_run(Session& session, const std::vector<ImageView>& images, Outputs& outputs) noexcept;

/// Session::classify.
LINGLOS_API Result<std::vector<Prediction>> try_classify(Session& session, const ImageView& image,
                                                         std::size_t k = 5) noexcept;

/// Session::submit. Where it fails, the callback is not called.
LINGLOS_API Result<Done> try_submit(Session& session, std::vector<ImageView> images,
                                    std::function<void(Result<Outputs>&&)> callback) noexcept;

/// Session::self_test.
LINGLOS_API Result<SelfTest> try_self_test(Session& session) noexcept;

}  // namespace linglos
