#include "linglos/session.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core.hpp"
#include "files.hpp"
#include "guard.hpp"
#include "queue.hpp"
#include "selftest.hpp"

namespace linglos {
namespace detail {
namespace {

void check_images(const ImageView* images, std::size_t count) {
  if (images == nullptr && count != 0)
    throw UsageError("There are no images: found a null pointer and a count of " + std::to_string(count) + ".");
}

/// Hands an answer over; what the receiver throws must not end the process.
void answer(const Session::Callback& callback, Outputs&& outputs, const std::exception_ptr& error) noexcept {
  try {
    callback(std::move(outputs), error);
  } catch (...) {  // the caller was told that it is swallowed
  }
}

const std::string kNothing;

}  // namespace
}  // namespace detail

Session::Session(const Bundle& bundle, const SessionOptions& options) {
  detail::only_errors([&] {
    detail::check_queue(options.queue);
    impl_ = std::make_unique<Impl>(bundle, options);
  });
}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Outputs Session::run(const std::vector<ImageView>& images) {
  Outputs outputs;
  run(images.data(), images.size(), outputs);
  return outputs;
}

void Session::run(const std::vector<ImageView>& images, Outputs& outputs) {
  run(images.data(), images.size(), outputs);
}

void Session::run(const ImageView* images, std::size_t count, Outputs& outputs) {
  detail::only_errors([&] {
    detail::check_images(images, count);
    detail::alive(impl_, "session").core->pool.run(images, count, outputs);
  });
}

void Session::run_input(const void* input, std::size_t count, Outputs& outputs) {
  detail::only_errors([&] {
    if (input == nullptr && count != 0) throw UsageError("There is no input: found a null pointer.");
    detail::alive(impl_, "session").core->pool.run_input(input, count, outputs);
  });
}

void Session::submit(std::vector<ImageView> images, Callback callback) {
  detail::only_errors([&] {
    if (!callback) throw UsageError("submit needs a callback.");
    Impl& impl = detail::alive(impl_, "session");
    auto shared = std::make_shared<Callback>(std::move(callback));
    auto run = [core = impl.core, images = std::move(images), shared] {
      Outputs outputs;
      std::exception_ptr error;
      try {
        core->pool.run(images.data(), images.size(), outputs);
      } catch (...) {
        error = detail::current_error();
        outputs.clear();
      }
      detail::answer(*shared, std::move(outputs), error);
    };
    auto drop = [shared] {
      detail::answer(*shared, {}, detail::dropped_error());
    };
    impl.workers.put({std::move(run), std::move(drop)});
  });
}

std::future<Outputs> Session::submit(std::vector<ImageView> images) {
  return detail::only_errors([&] {
    auto promise = std::make_shared<std::promise<Outputs>>();
    auto future = promise->get_future();
    submit(std::move(images), [promise](Outputs&& outputs, const std::exception_ptr& error) {
      if (error)
        promise->set_exception(error);
      else
        promise->set_value(std::move(outputs));
    });
    return future;
  });
}

QueueCounters Session::queue() const {
  return detail::only_errors([&] { return detail::alive(impl_, "session").workers.counters(); });
}

std::vector<Prediction> Session::classify(const ImageView& image, std::size_t k) {
  Outputs found;
  run(&image, 1, found);
  return top_k(found.front(), 0, k, manifest().labels);
}

SelfTest Session::self_test() {
  return detail::only_errors([&] {
    detail::Core& core = *detail::alive(impl_, "session").core;
    return detail::replay_golden(core.bundle, core.pool, core.choice);
  });
}

const Manifest& Session::manifest() const noexcept {
  static const Manifest nothing;
  return impl_ ? impl_->core->bundle.manifest() : nothing;
}
const std::string& Session::manifest_text() const noexcept {
  return impl_ ? impl_->core->bundle.manifest_text() : detail::kNothing;
}
const std::string& Session::backend() const noexcept { return impl_ ? impl_->core->choice.backend : detail::kNothing; }
const std::string& Session::device() const noexcept { return impl_ ? impl_->core->device : detail::kNothing; }
const std::string& Session::file() const noexcept { return impl_ ? impl_->core->choice.file : detail::kNothing; }
const std::string& Session::precision() const noexcept {
  return impl_ ? impl_->core->choice.precision : detail::kNothing;
}
const std::string& Session::reason() const noexcept { return impl_ ? impl_->core->choice.reason : detail::kNothing; }
InputKind Session::input() const noexcept { return impl_ ? impl_->core->choice.input : InputKind::tensor; }
const std::vector<TensorSpec>& Session::outputs() const noexcept {
  static const std::vector<TensorSpec> nothing;
  return impl_ ? impl_->core->pool.engine().outputs() : nothing;
}

namespace {

std::vector<Prediction> largest_logits(const Output& logits, std::size_t image, std::size_t k,
                                       const std::vector<std::string>& labels) {
  if (logits.shape.size() != 2)
    throw UsageError("Output " + detail::in_quotes(logits.name) + " is not a list of logits per image.");
  const auto rows = static_cast<std::size_t>(std::max<std::int64_t>(logits.shape[0], 0));
  const auto columns = static_cast<std::size_t>(std::max<std::int64_t>(logits.shape[1], 0));
  if (rows == 0 || columns == 0 ? !logits.values.empty()
                                : logits.values.size() % columns != 0 || logits.values.size() / columns != rows)
    throw UsageError("Output " + detail::in_quotes(logits.name) + " has " + std::to_string(logits.values.size()) +
                     " values, which its shape does not say.");
  const std::size_t classes = columns;
  if (image >= rows)
    throw UsageError("There is no image " + std::to_string(image) + " in this output.");
  const float* values = logits.values.data() + image * classes;
  std::vector<int> order(classes);
  std::iota(order.begin(), order.end(), 0);
  k = std::min(k, classes);
  // equal logits keep the order of the classes; NaN goes last, so that the order stays strict
  const auto before = [&](int a, int b) {
    const float x = values[a], y = values[b];
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) == std::isnan(y) ? a < b : std::isnan(y);
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(), before);
  double total = 0.0;
  const double largest = classes == 0 ? 0.0 : values[*std::min_element(order.begin(), order.end(), before)];
  for (std::size_t i = 0; i < classes; ++i) total += std::exp(values[i] - largest);
  std::vector<Prediction> found;
  for (std::size_t i = 0; i < k; ++i) {
    const auto index = static_cast<std::size_t>(order[i]);
    found.push_back({order[i], index < labels.size() ? labels[index] : "", std::exp(values[index] - largest) / total,
                     values[index]});
  }
  return found;
}

}  // namespace

std::vector<Prediction> top_k(const Output& logits, std::size_t image, std::size_t k,
                              const std::vector<std::string>& labels) {
  return detail::only_errors([&] { return largest_logits(logits, image, k, labels); });
}

}  // namespace linglos
