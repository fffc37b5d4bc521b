// What may go wrong around a run: refusals, full queues, moves, and objects that end in their own callbacks.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "check.hpp"
#include "fakes.hpp"
#include "guard.hpp"
#include "linglos/session.hpp"
#include "workers.hpp"

using namespace linglos;
using namespace linglos::testing;

namespace {

/// Holds threads back until it is opened. Copies are the same gate: a thread that opens one may outlive the test.
class Gate {
 public:
  void open() const {
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->open = true;
    }
    state_->wake.notify_all();
  }
  void wait() const {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->wake.wait(lock, [&] { return state_->open; });
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable wake;
    bool open = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

QueueOptions queue(std::size_t limit, Overflow overflow, int milliseconds = 0) {
  return {limit, overflow, std::chrono::milliseconds(milliseconds)};
}

/// One worker that stands at a gate, so that whatever is put in afterwards waits.
struct Blocked {
  explicit Blocked(const QueueOptions& options) : workers(std::make_unique<detail::Workers>(1, options)) {
    Gate started;
    workers->put({[started, gate = gate] {
                    started.open();
                    gate.wait();
                  },
                  {}});
    started.wait();
  }
  ~Blocked() { gate.open(); }
  Gate gate;
  std::unique_ptr<detail::Workers> workers;
};

}  // namespace

TEST(a_full_queue_refuses_and_what_it_refused_never_runs) {
  for (const Overflow overflow : {Overflow::refuse, Overflow::block}) {
    std::atomic<int> ran{0}, touched{0};
    {
      Blocked blocked(queue(2, overflow, 20));
      for (int i = 0; i < 2; ++i) blocked.workers->put({[&] { ++ran; }, [&] { ++touched; }});
      for (int i = 0; i < 3; ++i)
        CHECK_THROWS(BusyError, "queue is full: 2",
                     blocked.workers->put({[&] { ++touched; }, [&] { ++touched; }}));
      const QueueCounters counters = blocked.workers->counters();
      CHECK(counters.submitted == 3 && counters.refused == 3 && counters.waiting == 2 && counters.longest == 2);
      CHECK(counters.dropped == 0);
    }
    CHECK(ran == 2 && touched == 0);
  }
}

TEST(a_full_queue_may_drop_the_oldest_and_says_so_to_it) {
  std::vector<int> ran, dropped;
  {
    Blocked blocked(queue(2, Overflow::drop_oldest));
    for (int i = 0; i < 5; ++i) blocked.workers->put({[&ran, i] { ran.push_back(i); }, [&dropped, i] { dropped.push_back(i); }});
    CHECK(blocked.workers->counters().dropped == 3);
  }
  CHECK(ran == (std::vector<int>{3, 4}) && dropped == (std::vector<int>{0, 1, 2}));
}

TEST(a_full_queue_blocks_until_there_is_room) {
  std::atomic<int> ran{0};
  {
    Blocked blocked(queue(1, Overflow::block));
    blocked.workers->put({[&] { ++ran; }, {}});
    std::atomic<bool> taken{false};
    std::thread second([&] {
      blocked.workers->put({[&] { ++ran; }, {}});
      taken = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    CHECK(!taken);
    blocked.gate.open();
    second.join();
  }
  CHECK(ran == 2);
}

TEST(a_task_that_fills_its_own_queue_is_refused_instead_of_waiting_for_itself) {
  std::atomic<int> refused{0};
  {
    detail::Workers workers(1, queue(1, Overflow::block));
    workers.put({[&] {
                   workers.put({[] {}, {}});
                   try {
                     workers.put({[] {}, {}});
                   } catch (const BusyError&) {
                     ++refused;
                   }
                 },
                 {}});
  }
  CHECK(refused == 1);
}

TEST(workers_may_be_destroyed_by_their_own_task_and_still_finish_the_queue) {
  for (const std::size_t threads : {1U, 3U}) {
    auto finished = std::make_shared<std::atomic<int>>(0);
    auto owner = std::make_shared<std::unique_ptr<detail::Workers>>();
    *owner = std::make_unique<detail::Workers>(threads, queue(64, Overflow::block));
    Gate all_in, gone;
    (*owner)->put({[all_in, gone, owner] {
                     all_in.wait();
                     owner->reset();
                     gone.open();
                   },
                   {}});
    for (int i = 0; i < 20; ++i) (*owner)->put({[finished] { ++*finished; }, {}});
    all_in.open();
    gone.wait();
    owner.reset();
    for (int i = 0; i < 2000 && *finished < 20; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(*finished == 20);
  }
}

TEST(a_session_may_be_destroyed_in_its_own_callback) {
  const Images images(2);
  auto session = std::make_unique<Session>(open("digits"), threads(2));
  const Gate gone;
  std::atomic<int> answered{0};
  for (int i = 0; i < 4; ++i) session->submit(images.views, [&](Outputs&&, const std::exception_ptr&) { ++answered; });
  Session* raw = session.get();
  std::atomic<bool> right{false};
  raw->submit(images.views, [&, gone](Outputs&& outputs, const std::exception_ptr& error) {
    right = !error && outputs.size() == 1;
    session.reset();
    gone.open();
  });
  gone.wait();
  CHECK(right);
  CHECK(answered == 4);
}

TEST(what_a_callback_throws_is_swallowed_and_the_next_one_is_answered) {
  const Images images(1);
  Session session(open("digits"), threads(1));
  session.submit(images.views, [](Outputs&&, const std::exception_ptr&) { throw 17; });
  CHECK(session.submit(images.views).get().size() == 1);
  CHECK(session.queue().submitted == 2 && session.queue().refused == 0);
}

TEST(a_moved_from_object_answers_every_call) {
  const Images images(1);
  Outputs outputs;
  Session session(open("digits"), threads(1));
  Session moved = std::move(session);
  CHECK_THROWS(UsageError, "was moved from", session.run(images.views));
  CHECK_THROWS(UsageError, "was moved from", session.run(images.views, outputs));
  CHECK_THROWS(UsageError, "was moved from", session.run_input(outputs.data(), 0, outputs));
  CHECK_THROWS(UsageError, "was moved from", session.submit(images.views));
  CHECK_THROWS(UsageError, "was moved from", session.submit(images.views, [](Outputs&&, std::exception_ptr) {}));
  CHECK_THROWS(UsageError, "was moved from", session.classify(images.views[0]));
  CHECK_THROWS(UsageError, "was moved from", session.self_test());
  CHECK_THROWS(UsageError, "was moved from", session.queue());
  CHECK_THROWS(UsageError, "was moved from", Batcher bad(session));
  CHECK(session.backend().empty() && session.device().empty() && session.file().empty() && session.reason().empty());
  CHECK(session.precision().empty() && session.outputs().empty() && session.manifest().graphs.empty());
  CHECK(session.input() == InputKind::tensor);
  session = std::move(moved);
  CHECK(session.run(images.views).size() == 1);

  Preprocessor first(small());
  Preprocessor second = std::move(first);
  std::vector<float> values(second.size());
  CHECK(first.size() == 0);
  CHECK_THROWS(UsageError, "was moved from", first.tensor(images.views[0], values.data()));
  CHECK_THROWS(UsageError, "was moved from", first.pixels(images.views[0], reinterpret_cast<std::uint8_t*>(values.data())));
  CHECK_THROWS(UsageError, "was moved from", first.normalize(images.pixels[0].data(), values.data()));

  Batcher batcher(session);
  Batcher taken = std::move(batcher);
  CHECK_THROWS(UsageError, "was moved from", batcher.submit(images.views[0]));
  CHECK_THROWS(UsageError, "was moved from", batcher.queue());
  CHECK(taken.submit(images.views[0]).get().size() == 1);

  Bundle bundle = open("digits");
  const Bundle other = std::move(bundle);
  CHECK(!bundle.path().empty() && bundle.manifest().name == other.manifest().name);
}

TEST(null_pointers_and_impossible_shapes_are_errors) {
  Session session(open("digits"), threads(1));
  Preprocessor preprocessor(small());
  const Images images(1);
  Outputs outputs;
  CHECK_THROWS(UsageError, "null pointer and a count of 1", session.run(nullptr, 1, outputs));
  CHECK_THROWS(UsageError, "null pointer", session.run_input(nullptr, 1, outputs));
  CHECK_THROWS(UsageError, "null pointer", preprocessor.tensor(images.views[0], nullptr));
  CHECK_THROWS(UsageError, "null pointer", preprocessor.pixels(images.views[0], nullptr));
  std::vector<float> values(preprocessor.size());
  CHECK_THROWS(UsageError, "null pointer", preprocessor.normalize(nullptr, values.data()));
  CHECK_THROWS(UsageError, "its shape does not say", top_k({"f", {2, 4}, {1, 2, 3}}, 1, 2));
  CHECK_THROWS(UsageError, "its shape does not say", top_k({"f", {-1, 4}, {1, 2, 3, 4}}, 0, 2));
  CHECK_THROWS(UsageError, "its shape does not say", top_k({"f", {1LL << 62, 4}, {}}, 0, 2));
  CHECK(top_k({"f", {2, 0}, {}}, 1, 1).empty());
  SessionOptions options = threads(1);
  options.queue.limit = 0;
  CHECK_THROWS(UsageError, "queue.limit", Session(open("digits"), options));
  options.queue = queue(1, Overflow::block, -1);
  CHECK_THROWS(UsageError, "queue.timeout", Session(open("digits"), options));
}

TEST(a_batcher_outlives_its_session_and_answers_a_full_queue) {
  const Images images(4);
  std::unique_ptr<Batcher> batcher;
  std::vector<std::future<Outputs>> futures;
  {
    Session session(open("digits"), threads(1));
    BatcherOptions options;
    options.max_batch = 100;
    options.max_delay = std::chrono::milliseconds(200);  // all four wait together
    options.queue = queue(2, Overflow::drop_oldest);
    batcher = std::make_unique<Batcher>(session, options);
    for (const auto& image : images.views) futures.push_back(batcher->submit(image));
    CHECK(batcher->queue().dropped == 2);
  }
  for (int i = 0; i < 2; ++i) CHECK_THROWS(BusyError, "newer submissions", futures[i].get());
  for (int i = 2; i < 4; ++i) CHECK(futures[i].get()[0].shape == (std::vector<std::int64_t>{1, 10}));
}

TEST(exceptions_of_the_system_become_errors_with_a_code) {
  try {
    detail::only_errors([]() -> int { throw std::bad_alloc(); });
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::internal && std::string(error.what()) == "No memory left.");
  }
  CHECK_THROWS(Error, "odd", detail::only_errors([]() -> int { throw std::runtime_error("odd"); }));
  CHECK_THROWS(Error, "unknown kind", detail::only_errors([]() -> int { throw 3; }));
  CHECK_THROWS(UsageError, "mine", detail::only_errors([]() -> int { throw UsageError("mine"); }));
}
