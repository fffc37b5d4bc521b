#include "linglos/session.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "backend.hpp"
#include "files.hpp"
#include "pool.hpp"
#include "selftest.hpp"

namespace linglos {
namespace detail {

/// Threads that run what is put in a queue; the destructor finishes the queue.
class Workers {
 public:
  explicit Workers(std::size_t count) : count_(count) {}
  ~Workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void put(std::function<void()> task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(std::move(task));
      if (threads_.size() < count_) threads_.emplace_back([this] { work(); });
    }
    wake_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return closing_ || !queue_.empty(); });
        if (queue_.empty()) return;
        task = std::move(queue_.front());
        queue_.pop_front();
      }
      task();
    }
  }

  std::size_t count_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
  bool closing_ = false;
};

}  // namespace detail

struct Session::Impl {
  Bundle bundle;
  detail::Choice choice;
  std::string device;
  detail::Pool pool;
  detail::Workers workers;  // last: its destructor finishes what uses the pool

  Impl(Bundle from, const SessionOptions& options, detail::Choice chosen)
      : bundle(std::move(from)),
        choice(std::move(chosen)),
        device(choice.engine->device()),
        pool(std::move(choice.engine), bundle.manifest().preprocessing, choice.input, options.contexts),
        workers(static_cast<std::size_t>(options.contexts)) {}
};

Session::Session(const Bundle& bundle, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(bundle, options, detail::choose_engine(bundle, options))) {}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Outputs Session::run(const std::vector<ImageView>& images) {
  Outputs outputs;
  impl_->pool.run(images.data(), images.size(), outputs);
  return outputs;
}

void Session::run(const std::vector<ImageView>& images, Outputs& outputs) {
  impl_->pool.run(images.data(), images.size(), outputs);
}

void Session::run(const ImageView* images, std::size_t count, Outputs& outputs) {
  impl_->pool.run(images, count, outputs);
}

void Session::run_input(const void* input, std::size_t count, Outputs& outputs) {
  impl_->pool.run_input(input, count, outputs);
}

void Session::submit(std::vector<ImageView> images, Callback callback) {
  if (!callback) throw UsageError("submit needs a callback.");
  impl_->workers.put([impl = impl_.get(), images = std::move(images), callback = std::move(callback)] {
    Outputs outputs;
    std::exception_ptr error;
    try {
      impl->pool.run(images.data(), images.size(), outputs);
    } catch (...) {
      error = std::current_exception();
      outputs.clear();
    }
    callback(std::move(outputs), error);
  });
}

std::future<Outputs> Session::submit(std::vector<ImageView> images) {
  auto promise = std::make_shared<std::promise<Outputs>>();
  auto future = promise->get_future();
  submit(std::move(images), [promise](Outputs&& outputs, const std::exception_ptr& error) {
    if (error)
      promise->set_exception(error);
    else
      promise->set_value(std::move(outputs));
  });
  return future;
}

std::vector<Prediction> Session::classify(const ImageView& image, std::size_t k) {
  Outputs found;
  impl_->pool.run(&image, 1, found);
  return top_k(found.front(), 0, k, manifest().labels);
}

SelfTest Session::self_test() { return detail::replay_golden(impl_->bundle, impl_->pool, impl_->choice); }

const Manifest& Session::manifest() const noexcept { return impl_->bundle.manifest(); }
const std::string& Session::backend() const noexcept { return impl_->choice.backend; }
const std::string& Session::device() const noexcept { return impl_->device; }
const std::string& Session::file() const noexcept { return impl_->choice.file; }
const std::string& Session::precision() const noexcept { return impl_->choice.precision; }
const std::string& Session::reason() const noexcept { return impl_->choice.reason; }
InputKind Session::input() const noexcept { return impl_->choice.input; }
const std::vector<TensorSpec>& Session::outputs() const noexcept { return impl_->pool.engine().outputs(); }

std::vector<Prediction> top_k(const Output& logits, std::size_t image, std::size_t k,
                              const std::vector<std::string>& labels) {
  if (logits.shape.size() != 2)
    throw UsageError("Output " + detail::in_quotes(logits.name) + " is not a list of logits per image.");
  const auto classes = static_cast<std::size_t>(logits.shape[1]);
  if (image >= static_cast<std::size_t>(logits.shape[0]))
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

struct Batcher::Impl {
  struct Request {
    ImageView image;
    std::promise<Outputs> promise;
  };

  Session& session;
  BatcherOptions options;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Request> waiting;
  std::chrono::steady_clock::time_point oldest;
  bool closing = false;
  std::thread thread;

  Impl(Session& to, const BatcherOptions& given) : session(to), options(given), thread([this] { work(); }) {}
  ~Impl() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      closing = true;
    }
    wake.notify_one();
    thread.join();
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return closing || !waiting.empty(); });
      if (waiting.empty()) return;
      wake.wait_until(lock, oldest + options.max_delay,
                      [&] { return closing || waiting.size() >= options.max_batch; });
      const auto take = static_cast<std::ptrdiff_t>(std::min(waiting.size(), options.max_batch));
      std::vector<Request> batch(std::make_move_iterator(waiting.begin()),
                                 std::make_move_iterator(waiting.begin() + take));
      waiting.erase(waiting.begin(), waiting.begin() + take);
      oldest = std::chrono::steady_clock::now();  // for those that stay
      lock.unlock();
      answer(batch);
      lock.lock();
    }
  }

  void answer(std::vector<Request>& batch) {
    std::vector<ImageView> images;
    for (const auto& request : batch) images.push_back(request.image);
    try {
      const Outputs all = session.run(images);
      for (std::size_t i = 0; i < batch.size(); ++i) batch[i].promise.set_value(row(all, i));
    } catch (...) {
      if (batch.size() == 1) {
        batch.front().promise.set_exception(std::current_exception());
        return;
      }
      for (auto& request : batch) {  // one bad image must not fail its neighbours
        std::vector<Request> alone;
        alone.push_back(std::move(request));
        answer(alone);
      }
    }
  }

  static Outputs row(const Outputs& all, std::size_t index) {
    Outputs one;
    for (const Output& output : all) {
      const auto size = static_cast<std::ptrdiff_t>(output.values.size() / static_cast<std::size_t>(output.shape[0]));
      const auto begin = output.values.begin() + static_cast<std::ptrdiff_t>(index) * size;
      one.push_back({output.name, output.shape, {begin, begin + size}});
      one.back().shape[0] = 1;
    }
    return one;
  }
};

Batcher::Batcher(Session& session, const BatcherOptions& options) {
  if (options.max_batch < 1) throw UsageError("max_batch must be at least 1.");
  impl_ = std::make_unique<Impl>(session, options);
}

Batcher::~Batcher() = default;
Batcher::Batcher(Batcher&&) noexcept = default;
Batcher& Batcher::operator=(Batcher&&) noexcept = default;

std::future<Outputs> Batcher::submit(const ImageView& image) {
  std::future<Outputs> future;
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    if (impl_->waiting.empty()) impl_->oldest = std::chrono::steady_clock::now();
    impl_->waiting.push_back({image, {}});
    future = impl_->waiting.back().promise.get_future();
  }
  impl_->wake.notify_one();
  return future;
}

}  // namespace linglos
