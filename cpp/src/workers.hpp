// Threads that run what is put in a bounded queue.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "linglos/session.hpp"

namespace linglos::detail {

/// A task runs or is dropped, exactly once, or was never taken.
struct Task {
  std::function<void()> run;
  std::function<void()> drop;  ///< Called instead of `run` when the queue makes room for a newer task.
};

/// Runs tasks on up to `threads` threads, which start when they are first needed.
///
/// The destructor finishes the queue. It may run on one of the threads, inside a task: then that thread finishes the
/// queue after the task, on its own.
class Workers {
 public:
  Workers(std::size_t threads, const QueueOptions& options);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Takes a task, or throws; a task that was refused is neither run nor dropped.
  ///
  /// Throws BusyError if the queue is full and stays so, or on a thread of its own, which must not wait for itself;
  /// BackendError if no thread can be started.
  void put(Task task);

  QueueCounters counters() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::vector<std::thread> threads_;  // changed under the state's mutex
  std::size_t limit_;
};

}  // namespace linglos::detail
