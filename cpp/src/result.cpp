#include "linglos/result.hpp"

#include <exception>

#include "guard.hpp"

namespace linglos {
namespace {

/// The exception that is being handled, as a value; without memory for its text, its code alone.
Failure current_failure() noexcept {
  ErrorCode code = ErrorCode::internal;
  try {
    try {
      detail::rethrow_as_error();
    } catch (const Error& error) {
      code = error.code();
      return {code, error.what()};
    }
  } catch (...) {
    return {code, std::string()};
  }
}

template <typename Call>
auto as_result(Call&& call) noexcept -> Result<decltype(call())> {
  try {
    return call();
  } catch (...) {
    return current_failure();
  }
}

}  // namespace

Result<Bundle> try_open(const std::string& path) noexcept {
  return as_result([&] { return Bundle::open(path); });
}

Result<Session> try_session(const Bundle& bundle, const SessionOptions& options) noexcept {
  return as_result([&] { return Session(bundle, options); });
}

Result<Done> try_run(Session& session, const std::vector<ImageView>& images, Outputs& outputs) noexcept {
  return as_result([&] {
    session.run(images, outputs);
    return Done{};
  });
}

Result<std::vector<Prediction>> try_classify(Session& session, const ImageView& image, std::size_t k) noexcept {
  return as_result([&] { return session.classify(image, k); });
}

Result<Done> try_submit(Session& session, std::vector<ImageView> images,
                        std::function<void(Result<Outputs>&&)> callback) noexcept {
  return as_result([&] {
    if (!callback) throw UsageError("There is nobody to answer to: the callback is empty.");
    session.submit(std::move(images),
                   [receiver = std::move(callback)](Outputs&& found, const std::exception_ptr& error) {
                     receiver(as_result([&] {
                       if (error) std::rethrow_exception(error);
                       return std::move(found);
                     }));
                   });
    return Done{};
  });
}

Result<SelfTest> try_self_test(Session& session) noexcept {
  return as_result([&] { return session.self_test(); });
}

}  // namespace linglos
