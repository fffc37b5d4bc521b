// What a bounded queue does when it is full; shared by sessions and batchers.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>

#include "linglos/session.hpp"

namespace linglos::detail {

/// Throws UsageError if the options make no sense.
inline void check_queue(const QueueOptions& queue) {
  if (queue.limit < 1) throw UsageError("queue.limit must be at least 1.");
  if (queue.timeout.count() < 0) throw UsageError("queue.timeout must not be negative.");
}

/// Waits for room in `queue` as the options say. Afterwards there is room, or the oldest is to be dropped.
///
/// `may_wait` is false on a thread that would wait for itself. Throws BusyError, and counts it.
template <typename Queue>
void make_room(std::unique_lock<std::mutex>& lock, const Queue& queue, std::condition_variable& emptied,
               const QueueOptions& options, QueueCounters& counters, bool may_wait) {
  const auto has_room = [&] { return queue.size() < options.limit; };
  if (options.overflow == Overflow::block && may_wait) {
    if (options.timeout.count() == 0)
      emptied.wait(lock, has_room);
    else
      emptied.wait_for(lock, options.timeout, has_room);
  }
  if (has_room() || options.overflow == Overflow::drop_oldest) return;
  ++counters.refused;
  throw BusyError("The queue is full: " + std::to_string(queue.size()) + " submissions wait" +
                  (may_wait ? "" : ", and a callback must not wait for room") +
                  "; submit slower, raise queue.limit, or let it drop the oldest.");
}

/// Counts a submission that was put in, and takes the oldest out if that made the queue too long.
template <typename Queue>
typename Queue::value_type count_and_shorten(Queue& queue, const QueueOptions& options, QueueCounters& counters) {
  typename Queue::value_type dropped{};
  ++counters.submitted;
  if (queue.size() > options.limit) {
    dropped = std::move(queue.front());
    queue.pop_front();
    ++counters.dropped;
  }
  counters.longest = std::max(counters.longest, queue.size());
  return dropped;
}

}  // namespace linglos::detail
