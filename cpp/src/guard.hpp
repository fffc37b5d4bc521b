// Nothing but Error leaves the library.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "linglos/error.hpp"

namespace linglos::detail {

/// Throws whatever is being handled as an Error: the system's own exceptions get a code and keep their text.
[[noreturn]] void rethrow_as_error();

/// The exception that is being handled, as an Error.
std::exception_ptr current_error() noexcept;

/// What the receiver of a submission is told that was dropped for a newer one.
std::exception_ptr dropped_error() noexcept;

/// Runs a public function's body; only Error comes out.
template <typename Call>
auto only_errors(Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (...) {
    rethrow_as_error();
  }
}

/// What a moved-from object answers where there is nothing to return.
template <typename Pointer>
auto& alive(const Pointer& impl, const char* what) {
  if (!impl) throw UsageError(std::string("This ") + what + " was moved from; use the one it was moved to.");
  return *impl;
}

}  // namespace linglos::detail
