#include "guard.hpp"

#include <new>

namespace linglos::detail {
namespace {

// Made while there is memory: without any left, an error could not be made any more.
const std::exception_ptr kNoMemory = std::make_exception_ptr(Error(ErrorCode::internal, "No memory left."));
const std::exception_ptr kDropped =
    std::make_exception_ptr(BusyError("Dropped: newer submissions filled the queue."));

[[noreturn]] void throw_internal(const char* what) {
  try {
    throw Error(ErrorCode::internal, what);
  } catch (const std::bad_alloc&) {
    std::rethrow_exception(kNoMemory);
  }
}

}  // namespace

void rethrow_as_error() {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    std::rethrow_exception(kNoMemory);
  } catch (const std::exception& error) {
    throw_internal(error.what());
  } catch (...) {
    throw_internal("an exception of unknown kind");
  }
}

std::exception_ptr current_error() noexcept {
  try {
    rethrow_as_error();
  } catch (...) {
    return std::current_exception();
  }
}

std::exception_ptr dropped_error() noexcept { return kDropped; }

}  // namespace linglos::detail
