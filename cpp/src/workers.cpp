#include "workers.hpp"

#include <system_error>
#include <utility>

#include "queue.hpp"

namespace linglos::detail {

/// What the threads share; it lives as long as the last of them.
struct Workers::State {
  explicit State(const QueueOptions& given) : options(given) {}

  const QueueOptions options;
  mutable std::mutex mutex;
  std::condition_variable filled;
  std::condition_variable emptied;
  std::deque<Task> queue;
  QueueCounters counters;
  bool closing = false;

  void work() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      filled.wait(lock, [&] { return closing || !queue.empty(); });
      if (queue.empty()) return;
      Task task = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      emptied.notify_one();
      task.run();
      task = {};  // what it holds may be the last owner of something that takes its time, or of these workers
      lock.lock();
      ++counters.finished;
    }
  }
};

namespace {
thread_local const void* working_for = nullptr;  // the state whose tasks this thread runs
}

Workers::Workers(std::size_t threads, const QueueOptions& options)
    : state_(std::make_shared<State>(options)), limit_(threads) {
  threads_.reserve(threads);  // so that a thread, once started, is never lost to a failed allocation
}

Workers::~Workers() {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closing = true;
  }
  state_->filled.notify_all();
  state_->emptied.notify_all();
  for (auto& thread : threads_)
    if (thread.get_id() == std::this_thread::get_id())
      thread.detach();
    else
      thread.join();
}

void Workers::put(Task task) {
  const std::shared_ptr<State> state = state_;  // a task may end these workers before this call returns
  Task dropped;
  {
    std::unique_lock<std::mutex> lock(state->mutex);
    const bool own = working_for == state.get();
    make_room(lock, state->queue, state->emptied, state->options, state->counters, !own);
    if (threads_.size() < limit_) {
      try {
        threads_.emplace_back([state] {
          working_for = state.get();
          state->work();
        });
      } catch (const std::system_error& error) {
        if (threads_.empty()) throw BackendError(std::string("No thread can be started: ") + error.what());
      }
    }
    state->queue.push_back(std::move(task));  // the last step that can fail: from here on the task is taken
    dropped = count_and_shorten(state->queue, state->options, state->counters);
  }
  state->filled.notify_one();
  if (dropped.drop) dropped.drop();
}

QueueCounters Workers::counters() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  QueueCounters counters = state_->counters;
  counters.waiting = state_->queue.size();
  return counters;
}

}  // namespace linglos::detail
