// Everything that can fail fails once: the first allocation, the second, …, the first thread, …, the first call of the
// vendor's library, …. What must come out each time is an Error or the right answer: no crash, no leak, no callback
// after a refusal. A program of its own, because it replaces operator new and pthread_create.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#include "check.hpp"
#include "fakes.hpp"
#include "onnxruntime.hpp"

using namespace linglos;
using namespace linglos::testing;

namespace {

/// Counts down; the call that meets 0 fails.
class Countdown {
 public:
  void start(long left) { left_ = left; }
  void stop() { left_ = -1; }
  bool fails() noexcept {
    if (left_.load() < 0) return false;
    return left_.fetch_sub(1) == 0;
  }
  /// Whether everything went through before it was its turn.
  bool unused() const { return left_.load() >= 0; }

 private:
  std::atomic<long> left_{-1};
};

Countdown allocations, thread_starts, vendor_calls;
thread_local bool in_vendor = false;  // what ONNX Runtime does without memory is its own affair

void* allocate(std::size_t size) {
  if (!in_vendor && allocations.fails()) throw std::bad_alloc();
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  if (thread_starts.fails()) return EAGAIN;
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static auto* const real = reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_create"));
  return real(thread, attributes, start, argument);
}

namespace {

OrtApi real_api;

/// A function of the table that fails when it is its turn, and is left alone by the failing allocations.
template <auto Member, typename Function>
struct Watched;
template <auto Member, typename... Arguments>
struct Watched<Member, OrtStatus*(ORT_API_CALL*)(Arguments...) noexcept> {
  static OrtStatus* ORT_API_CALL call(Arguments... arguments) noexcept {
    in_vendor = true;
    OrtStatus* status =
        vendor_calls.fails() ? real_api.CreateStatus(ORT_FAIL, "planted") : (real_api.*Member)(arguments...);
    in_vendor = false;
    return status;
  }
};

template <auto Member, typename... Arguments>
struct Watched<Member, void(ORT_API_CALL*)(Arguments...)> {  // a release: it allocates too, and cannot fail
  static void ORT_API_CALL call(Arguments... arguments) {
    const bool inside = std::exchange(in_vendor, true);
    (real_api.*Member)(arguments...);
    in_vendor = inside;
  }
};

#pragma GCC diagnostic ignored "-Wignored-attributes"  // of function types, which say that their result matters
template <auto... Members>
OrtApi watched() {
  real_api = *detail::onnxruntime_api();
  OrtApi api = real_api;
  ((api.*Members = Watched<Members, std::remove_reference_t<decltype(api.*Members)>>::call), ...);
  return api;
}

const OrtApi& watched_api() {
  static const OrtApi api =
      watched<&OrtApi::CreateEnv, &OrtApi::CreateSessionOptions, &OrtApi::SetSessionLogSeverityLevel,
              &OrtApi::SetIntraOpNumThreads, &OrtApi::SetInterOpNumThreads, &OrtApi::DisableMemPattern,
              &OrtApi::AddSessionConfigEntry, &OrtApi::CreateSessionFromArray, &OrtApi::CreateCpuMemoryInfo,
              &OrtApi::CreateTensorWithDataAsOrtValue, &OrtApi::Run, &OrtApi::GetTensorTypeAndShape,
              &OrtApi::GetTensorElementType, &OrtApi::GetDimensionsCount, &OrtApi::GetDimensions,
              &OrtApi::GetAvailableProviders, &OrtApi::ReleaseEnv,
              &OrtApi::ReleaseSession, &OrtApi::ReleaseSessionOptions, &OrtApi::ReleaseMemoryInfo,
              &OrtApi::ReleaseValue, &OrtApi::ReleaseTensorTypeAndShapeInfo, &OrtApi::ReleaseStatus>();
  return api;
}

/// Calls `work` for every failure of `faults`, or every step-th, until it goes through untouched; returns how many.
template <typename Work>
int fail_each(Countdown& faults, Work&& work, int step = 1) {
  for (int turn = 0;; turn += step) {
    CHECK(turn < 20000);
    faults.start(turn);
    try {
      work();
    } catch (const Error&) {  // anything else ends the program
    } catch (const std::bad_alloc&) {  // of the test itself
    }
    const bool unused = faults.unused();
    faults.stop();
    if (unused) return turn;
  }
}

constexpr int kStep = 17;  // a session takes thousands of allocations to open, and milliseconds

Outputs expected_of(const Images& images) {
  detail::replace_onnxruntime_api(&watched_api());
  Session session(open("digits"), threads(1));
  return session.run(images.views);
}

}  // namespace

TEST(every_single_allocation_may_fail_while_a_bundle_is_opened) {
  const std::string path = check::bundles() + "/digits";
  CHECK(fail_each(allocations, [&] { Bundle::open(path); }) > 100);
}

TEST(every_single_allocation_may_fail_while_images_are_run_submitted_and_batched) {
  const Images images(3);
  const Outputs expected = expected_of(images);
  Session session(open("digits"), threads(2));
  const int failures = fail_each(allocations, [&] {
    const Outputs found = session.run(images.views);
    if (found[0].values != expected[0].values) std::abort();
    if (session.classify(images.views[0], 3).size() != 3) std::abort();
  });
  CHECK(failures > 5);

  std::atomic<int> answers{0}, submitted{0}, refused{0};
  const auto submit = [&](Session& to) {
    try {
      to.submit(images.views, [&](Outputs&& found, const std::exception_ptr& error) {
        if (!error && found[0].values != expected[0].values) std::abort();
        ++answers;
      });
      ++submitted;
    } catch (...) {
      ++refused;
      throw;
    }
  };
  {
    Session own(open("digits"), threads(2));
    CHECK(fail_each(allocations, [&] { submit(own); }) >= 3);
  }
  CHECK(answers == submitted && refused > 0);
  const int while_opening = fail_each(
      allocations,
      [&] {
        Session own(open("digits"), threads(2));
        submit(own);
      },
      kStep);
  CHECK(while_opening > 100 && answers == submitted);

  fail_each(allocations, [&] {
    std::vector<std::future<Outputs>> futures;
    Batcher batcher(session, {4, std::chrono::microseconds(100)});
    for (const auto& image : images.views) futures.push_back(batcher.submit(image));
    for (auto& future : futures)
      if (future.get()[0].values.size() != 10) std::abort();
  });
}

TEST(every_single_thread_may_fail_to_start) {
  const Images images(2);
  const Outputs expected = expected_of(images);
  std::atomic<int> answers{0}, submitted{0};
  fail_each(thread_starts, [&] {
    Session session(open("digits"), threads(3));
    for (int i = 0; i < 3; ++i) {
      session.submit(images.views, [&](Outputs&& found, const std::exception_ptr& error) {
        if (error || found[0].values != expected[0].values) std::abort();
        ++answers;
      });
      ++submitted;
    }
  });
  CHECK(answers == submitted && submitted >= 6);
  fail_each(thread_starts, [&] {
    Session session(open("digits"), threads(1));
    Batcher batcher(session);
    if (batcher.submit(images.views[0]).get()[0].values.size() != 10) std::abort();
  });
}

TEST(every_single_call_of_onnx_runtime_may_fail) {
  const Images images(6);
  const Outputs expected = expected_of(images);
  const int failures = fail_each(vendor_calls, [&] {
    Session session(open("digits"), threads(2));
    Outputs found;
    for (int i = 0; i < 2; ++i) session.run(images.views, found);
    if (found[0].values != expected[0].values) std::abort();
  });
  CHECK(failures > 20);
}
