#include <algorithm>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "core.hpp"
#include "guard.hpp"
#include "queue.hpp"

namespace linglos {

struct Batcher::Impl {
  struct Request {
    ImageView image;
    std::promise<Outputs> promise;
  };
  using Clock = std::chrono::steady_clock;

  const std::shared_ptr<detail::Core> core;
  const BatcherOptions options;
  mutable std::mutex mutex;
  std::condition_variable filled;
  std::condition_variable emptied;
  std::list<Request> waiting;  // splicing cannot fail
  QueueCounters counters;
  Clock::time_point oldest;
  bool closing = false;
  std::thread thread;

  Impl(std::shared_ptr<detail::Core> of, const BatcherOptions& given)
      : core(std::move(of)), options(given), thread([this] { work(); }) {}
  ~Impl() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      closing = true;
    }
    filled.notify_one();
    thread.join();
  }

  void work() noexcept {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      filled.wait(lock, [&] { return closing || !waiting.empty(); });
      if (waiting.empty()) return;
      filled.wait_until(lock, oldest + options.max_delay,
                        [&] { return closing || waiting.size() >= options.max_batch; });
      std::list<Request> batch;
      const auto count = std::min(waiting.size(), options.max_batch);
      batch.splice(batch.begin(), waiting, waiting.begin(), std::next(waiting.begin(), static_cast<std::ptrdiff_t>(count)));
      oldest = Clock::now();  // for those that stay
      lock.unlock();
      emptied.notify_all();
      answer(batch);
      batch.clear();
      lock.lock();
      counters.finished += count;
    }
  }

  /// Answers requests, together if that works: one bad image must not fail its neighbours.
  void answer(std::list<Request>& batch) noexcept {
    Outputs all;
    try {
      std::vector<ImageView> images;
      for (const Request& request : batch) images.push_back(request.image);
      core->pool.run(images.data(), images.size(), all);
    } catch (...) {
      if (batch.size() == 1) return fail(batch.front().promise);
      for (auto request = batch.begin(); request != batch.end();) {
        std::list<Request> alone;
        alone.splice(alone.begin(), batch, request++);
        answer(alone);
      }
      return;
    }
    std::size_t index = 0;
    for (Request& request : batch) {
      Outputs one;
      try {
        one = row(all, index++);
      } catch (...) {
        fail(request.promise);
        continue;
      }
      request.promise.set_value(std::move(one));
    }
  }

  static void fail(std::promise<Outputs>& promise) noexcept { promise.set_exception(detail::current_error()); }

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
  detail::only_errors([&] {
    if (options.max_batch < 1) throw UsageError("max_batch must be at least 1.");
    detail::check_queue(options.queue);
    impl_ = std::make_unique<Impl>(detail::alive(session.impl_, "session").core, options);
  });
}

Batcher::~Batcher() = default;
Batcher::Batcher(Batcher&&) noexcept = default;
Batcher& Batcher::operator=(Batcher&&) noexcept = default;

std::future<Outputs> Batcher::submit(const ImageView& image) {
  return detail::only_errors([&] {
    Impl& impl = detail::alive(impl_, "batcher");
    Impl::Request request{image, {}};
    auto future = request.promise.get_future();
    Impl::Request dropped;
    {
      std::unique_lock<std::mutex> lock(impl.mutex);
      detail::make_room(lock, impl.waiting, impl.emptied, impl.options.queue, impl.counters, true);
      if (impl.waiting.empty()) impl.oldest = Impl::Clock::now();
      impl.waiting.push_back(std::move(request));
      const std::uint64_t before = impl.counters.dropped;
      dropped = detail::count_and_shorten(impl.waiting, impl.options.queue, impl.counters);
      if (impl.counters.dropped != before)
        dropped.promise.set_exception(detail::dropped_error());
    }
    impl.filled.notify_one();
    return future;
  });
}

QueueCounters Batcher::queue() const {
  return detail::only_errors([&] {
    const Impl& impl = detail::alive(impl_, "batcher");
    const std::lock_guard<std::mutex> lock(impl.mutex);
    QueueCounters counters = impl.counters;
    counters.waiting = impl.waiting.size();
    return counters;
  });
}

}  // namespace linglos
