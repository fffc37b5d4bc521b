// The adapters for TensorRT 10, TensorRT 11 and TensorRT-RTX against a fake of the library and of the driver. The
// environment says which library: one a process.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "check.hpp"
#include "fake.h"
#include "fakes.hpp"
#include "pool.hpp"

using namespace linglos;
using namespace linglos::testing;
using linglos::detail::ModelFile;

namespace {

BackendKind kind() {
  return std::getenv("LINGLOS_TENSORRT_RTX_LIBRARY") != nullptr ? BackendKind::tensorrt_rtx : BackendKind::tensorrt;
}

template <typename Function>
Function* of_fake(const char* name) {
  static void* const handle = dlopen(std::getenv("LINGLOS_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) check::fail(__FILE__, __LINE__, "the fake is not loaded");
  return reinterpret_cast<Function*>(dlsym(handle, name));
}

fake_counts counts() { return of_fake<fake_counts_fn>("fake_count")(); }

/// Nothing is open, and nothing was done that the real driver would not take.
void check_nothing_is_left() {
  const fake_counts left = counts();
  CHECK(left.runtimes == 0 && left.engines == 0 && left.contexts == 0 && left.streams == 0 && left.memories == 0 &&
        left.devices == 0 && left.current == 0 && left.misuses == 0);
}

ModelFile model(fake_plan plan, bool tensor = true) {
  std::memcpy(plan.magic, kind() == BackendKind::tensorrt ? "ftrt" : "vtrt", 4);
  plan.pixels = tensor ? 0 : 1;
  ModelFile file;
  file.file = "model.engine";
  file.data.resize(sizeof plan);
  std::memcpy(file.data.data(), &plan, sizeof plan);
  file.input = tensor ? InputKind::tensor : InputKind::pixels;
  file.preprocessing = small();
  file.inputs = {{"image", tensor ? "float32" : "uint8", {-1, 3, 6, 8}}};
  file.outputs = {{"logits", "float32", {-1, -1}}};
  return file;
}

std::unique_ptr<detail::Engine> open_plan(const ModelFile& file, int max_batch = 4) {
  return detail::open_tensorrt(kind(), file, threads(1, max_batch));
}

fake_plan plan(int batch = -1, int max_batch = 8) { return {{}, batch, max_batch, 6, 8, 0, 3}; }

/// What the fake's model answers.
float expected_sum(const ImageView& image, bool tensor) {
  Preprocessor preprocessor(small());
  float sum = 0;
  if (tensor) {
    std::vector<float> values(preprocessor.size());
    preprocessor.tensor(image, values.data());
    for (const float value : values) sum += value;
  } else {
    std::vector<std::uint8_t> values(preprocessor.size());
    preprocessor.pixels(image, values.data());
    for (const std::uint8_t value : values) sum += value;
  }
  return sum;
}

void check_answers(const Images& images, const Outputs& found, bool tensor = true) {
  CHECK(found.size() == 1 && found[0].name == "logits");
  CHECK(found[0].shape == (std::vector<std::int64_t>{static_cast<std::int64_t>(images.views.size()), 3}));
  for (std::size_t i = 0; i < images.views.size(); ++i)
    for (int k = 0; k < 3; ++k)
      CHECK(found[0].values[i * 3 + static_cast<std::size_t>(k)] ==
            expected_sum(images.views[i], tensor) * static_cast<float>(k + 1));
}

}  // namespace

TEST(a_plan_runs_in_batches_of_every_size_in_turn) {
  for (const bool tensor : {true, false}) {
    detail::Pool pool(open_plan(model(plan(), tensor)), small(), tensor ? InputKind::tensor : InputKind::pixels, 1);
    CHECK(pool.engine().device() == "cuda:0" && pool.engine().max_batch() == 4 && !pool.engine().fixed_batch());
    for (const std::size_t count : {1U, 4U, 2U, 11U, 0U, 3U}) {
      const Images images(count);
      Outputs found;
      pool.run(images.views.data(), count, found);
      check_answers(images, found, tensor);
    }
  }
  check_nothing_is_left();
}

TEST(a_plan_of_a_fixed_batch_is_filled_up) {
  detail::Pool pool(open_plan(model(plan(3, 3)), 16), small(), InputKind::tensor, 1);
  CHECK(pool.engine().max_batch() == 3 && pool.engine().fixed_batch());
  const Images images(5);
  Outputs found;
  pool.run(images.views.data(), images.views.size(), found);
  check_answers(images, found);
}

TEST(contexts_have_a_stream_each_and_run_at_the_same_time) {
  detail::Pool pool(open_plan(model(plan())), small(), InputKind::tensor, 3);
  CHECK(counts().streams == 3 && counts().contexts == 3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller)
    callers.emplace_back([&, caller] {
      const Images images(static_cast<std::size_t>(1 + caller));
      Outputs found;
      for (int turn = 0; turn < 20; ++turn) {
        pool.run(images.views.data(), images.views.size(), found);
        for (std::size_t i = 0; i < images.views.size(); ++i)
          if (found[0].values[3 * i] != expected_sum(images.views[i], true)) ++wrong;
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST(nothing_happens_to_the_device_that_was_current_on_the_thread) {
  detail::Pool pool(open_plan(model(plan())), small(), InputKind::tensor, 1);
  const Images images(2);
  Outputs found;
  pool.run(images.views.data(), 2, found);
  CHECK(counts().current == 0);
}

TEST(every_single_call_of_the_vendor_may_fail) {
  const auto fail_after = of_fake<fake_fail_after_fn>("fake_fail_after");
  const Images images(5);
  int failures = 0;
  for (long turn = 0;; ++turn) {
    CHECK(turn < 1000);
    fail_after(turn);
    try {
      detail::require_tensorrt(kind(), EngineEntry{}, 1, 0);
      detail::Pool pool(open_plan(model(plan())), small(), InputKind::tensor, 2);
      Outputs found;
      pool.run(images.views.data(), 5, found);
      check_answers(images, found);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::device || error.code() == ErrorCode::backend);
      ++failures;
    }
    const bool unused = fail_after(-1) >= 0;
    check_nothing_is_left();
    if (unused) break;
  }
  CHECK(failures > 30);
}

TEST(a_run_that_failed_leaves_a_context_that_works) {
  const auto fail_after = of_fake<fake_fail_after_fn>("fake_fail_after");
  detail::Pool pool(open_plan(model(plan())), small(), InputKind::tensor, 1);
  const Images many(4), few(2);
  Outputs found;
  pool.run(many.views.data(), 4, found);
  for (long turn = 0;; ++turn) {
    fail_after(turn);
    try {
      pool.run(few.views.data(), 2, found);
    } catch (const Error&) {
    }
    const bool unused = fail_after(-1) >= 0;
    pool.run(many.views.data(), 4, found);
    check_answers(many, found);
    if (unused) break;
  }
}

TEST(what_does_not_fit_the_manifest_is_refused_by_name) {
  const auto refused = [](const char* part, auto&& change) {
    ModelFile file = model(plan());
    change(file);
    CHECK_THROWS(BundleError, part, open_plan(file));
    check_nothing_is_left();
  };
  refused("other inputs or outputs", [](ModelFile& file) { file.outputs.push_back(file.outputs[0]); });
  refused("no such input 'pixels'", [](ModelFile& file) { file.inputs[0].name = "pixels"; });
  refused("no such input 'image'", [](ModelFile& file) { file.input = InputKind::pixels; });
  refused("no float32 output 'scores'", [](ModelFile& file) { file.outputs[0].name = "scores"; });
  refused("another input size", [](ModelFile& file) { file.preprocessing.height = 7; });
  refused("does not start like a plan of TensorRT", [](ModelFile& file) { file.data[0] = 'x'; });
  refused("a batch of 0", [](ModelFile& file) { file = model(plan(-1, 0)); });
  ModelFile cut = model(plan());
  cut.data.resize(8);
  CHECK_THROWS(BackendError, "loading 'model.engine': the plan is cut off", open_plan(cut));
  check_nothing_is_left();
}

TEST(a_plan_of_the_other_product_is_not_handed_on) {
  ModelFile file = model(plan());
  file.data[0] = kind() == BackendKind::tensorrt ? 'v' : 'f';
  CHECK_THROWS(BundleError, "does not start like a plan", open_plan(file));
}

TEST(what_the_engine_requires_is_compared_before_anything_is_loaded) {
  const long before = counts().engines;
  const auto refused = [](const char* part, std::map<std::string, std::string> requirements) {
    EngineEntry entry;
    entry.requirements = std::move(requirements);
    CHECK_THROWS(DeviceError, part, detail::require_tensorrt(kind(), entry, 1, 0));
  };
  refused("built with TensorRT", {{"version", "9.9.9"}});
  refused("built for compute capability 8.6, 9.0, device 0 has 8.9", {{"compute_capability", "8.6, 9.0"}});
  refused("built for compute capability 12.0 or later", {{"compute_capability", "12.0 or later"}});
  CHECK_THROWS(DeviceError, "no CUDA device 1, only 1", detail::require_tensorrt(kind(), EngineEntry{}, 1, 1));
  CHECK_THROWS(DeviceError, "1073741824 free", detail::require_tensorrt(kind(), EngineEntry{}, 1 << 30, 0));
  EngineEntry fits;
  const std::string here = detail::tensorrt_info(kind()).version;
  for (const auto& version : {here, here + ".106"})
    for (const char* capability : {"8.9", "8.0 or later", "8.6, 8.9"}) {
      fits.requirements = {{"version", version}, {"compute_capability", capability}};
      detail::require_tensorrt(kind(), fits, 1, 0);
    }
  CHECK(counts().engines == before);
  check_nothing_is_left();
}

TEST(a_session_takes_the_engine_of_its_product) {
  Session session(open("planned"), threads(2));
  CHECK(session.backend() == (kind() == BackendKind::tensorrt ? "tensorrt" : "tensorrt-rtx"));
  CHECK(session.device() == "cuda:0");
  CHECK(session.reason().find(kind() == BackendKind::tensorrt ? "model.engine: a TensorRT engine that fits cuda:0"
                                                              : "rtx.engine: a TensorRT-RTX engine") == 0);
  const Images images(3);
  const Outputs found = session.run(images.views);
  CHECK(found[0].values.size() == 30);
  SessionOptions other = threads(1);
  other.backend = kind() == BackendKind::tensorrt ? BackendKind::tensorrt_rtx : BackendKind::tensorrt;
  CHECK_THROWS(BackendError, "is not installed", Session(open("planned"), other));
  other.backend = kind();
  CHECK_THROWS(BackendError, "has no engine of it", Session(open("digits"), other));
}
