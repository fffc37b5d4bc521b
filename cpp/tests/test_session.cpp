#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "check.hpp"
#include "fakes.hpp"
#include "linglos/session.hpp"
#include "pool.hpp"

using namespace linglos;
using namespace linglos::testing;

TEST(a_list_of_any_length_is_cut_into_batches) {
  for (const bool fixed : {false, true}) {
    auto engine = std::make_unique<FakeEngine>(3 * 6 * 8, 4, fixed);
    FakeEngine& fake = *engine;
    detail::Pool pool(std::move(engine), small(), InputKind::tensor, 1);
    const Images images(11);
    Outputs all, one;
    pool.run(images.views.data(), 11, all);
    CHECK(fake.runs == 3);
    CHECK(all.size() == 1 && all[0].name == "sum" && all[0].shape == (std::vector<std::int64_t>{11, 2}));
    for (std::size_t i = 0; i < 11; ++i) {
      pool.run(&images.views[i], 1, one);
      CHECK(one[0].values[0] == all[0].values[2 * i]);
    }
    pool.run(nullptr, 0, one);
    CHECK(one[0].shape[0] == 0 && one[0].values.empty());
  }
}

TEST(eight_threads_share_one_session_and_get_the_answers_of_one) {
  for (const char* name : {"digits", "pixels", "features", "fixed"}) {
    Session session(open(name), threads(3));
    const Images images(9);
    const Outputs expected = session.run(images.views);
    std::atomic<int> different{0};
    std::vector<std::thread> all;
    for (int t = 0; t < 8; ++t)
      all.emplace_back([&] {
        Outputs outputs;
        for (int i = 0; i < 3; ++i) {
          session.run(images.views, outputs);
          for (std::size_t j = 0; j < outputs.size(); ++j)
            if (outputs[j].values != expected[j].values || outputs[j].shape != expected[j].shape) ++different;
        }
      });
    for (auto& thread : all) thread.join();
    CHECK(different == 0);
  }
}

TEST(no_more_runs_at_once_than_contexts) {
  auto engine = std::make_unique<FakeEngine>(3 * 6 * 8, 4, false);
  FakeEngine& fake = *engine;
  detail::Pool pool(std::move(engine), small(), InputKind::tensor, 2);
  const Images images(5);
  std::vector<std::thread> all;
  for (int t = 0; t < 8; ++t)
    all.emplace_back([&] {
      Outputs outputs;
      for (int i = 0; i < 20; ++i) pool.run(images.views.data(), 5, outputs);
    });
  for (auto& thread : all) thread.join();
  CHECK(fake.runs == 8 * 20 * 2);
  CHECK(fake.most_at_once <= 2);
}

TEST(a_submitted_run_gives_its_answer_or_its_error_to_the_future_and_the_callback) {
  Session session(open("digits"), threads(2));
  const Images images(3);
  const Outputs expected = session.run(images.views);
  std::vector<std::future<Outputs>> futures;
  for (int i = 0; i < 10; ++i) futures.push_back(session.submit(images.views));
  for (auto& future : futures) CHECK(future.get()[0].values == expected[0].values);
  auto bad = session.submit({ImageView{}});
  CHECK_THROWS(UsageError, "must have pixels", bad.get());
  std::promise<bool> failed;
  session.submit({ImageView{}}, [&](Outputs&& outputs, const std::exception_ptr& error) {
    failed.set_value(error != nullptr && outputs.empty());
  });
  CHECK(failed.get_future().get());
  CHECK_THROWS(UsageError, "callback", session.submit(images.views, Session::Callback()));
}

TEST(a_session_finishes_what_was_submitted_before_it_goes) {
  const Images images(2);
  std::atomic<int> answered{0};
  {
    Session session(open("digits"), threads(1));
    for (int i = 0; i < 6; ++i) session.submit(images.views, [&](Outputs&&, const std::exception_ptr&) { ++answered; });
    Session moved = std::move(session);
  }
  CHECK(answered == 6);
}

TEST(the_batcher_gathers_images_and_gives_each_its_own_answer) {
  Session session(open("digits"), threads(1));
  const Images images(9);
  const Outputs expected = session.run(images.views);
  Batcher batcher(session, {4, std::chrono::microseconds(500)});
  std::vector<std::future<Outputs>> futures;
  for (const auto& image : images.views) futures.push_back(batcher.submit(image));
  auto bad = batcher.submit(ImageView{});
  for (std::size_t i = 0; i < futures.size(); ++i) {
    const Outputs found = futures[i].get();
    CHECK(found[0].shape == (std::vector<std::int64_t>{1, 10}));
    for (std::size_t c = 0; c < 10; ++c)
      CHECK(std::fabs(found[0].values[c] - expected[0].values[10 * i + c]) < 1e-5F);  // batches of other sizes
  }
  CHECK_THROWS(UsageError, "must have pixels", bad.get());
}

TEST(the_self_test_passes_here_and_says_what_drifted) {
  for (const char* name : {"digits", "pixels", "features", "fixed"}) {
    const SelfTest report = Session(open(name), threads(1)).self_test();
    if (!report.passed) check::fail(__FILE__, __LINE__, std::string(name) + ": " + report.summary());
    CHECK(report.checks.size() >= 4);
    for (const Check& check : report.checks) CHECK(check.stage != "preprocessing" || check.differing == 0);
  }
  const SelfTest drifted = Session(open("drifted"), threads(1)).self_test();
  CHECK(!drifted.passed);
  CHECK(drifted.summary().find("engine logits: ") != std::string::npos);
  CHECK(drifted.summary().find("differ, by up to 1 ") != std::string::npos);
  CHECK(drifted.summary().find("preprocessing") == std::string::npos);
  CHECK_THROWS(BundleError, "no golden images", Session(open("bare"), threads(1)).self_test());
}

TEST(a_session_says_what_it_chose_and_why_not_better) {
  Session session(open("digits"), threads(1));
  CHECK(session.backend() == "onnxruntime" && session.device() == "cpu" && session.file() == "model.onnx");
  CHECK(session.outputs().size() == 1 && session.outputs()[0].shape == (std::vector<std::int64_t>{-1, 10}));
#if !LINGLOS_HAS_TENSORRT
  Session engine(open("engine"), threads(1));
  CHECK(engine.reason().find("built without TensorRT (") != std::string::npos);
  CHECK(engine.reason().find("built without TensorRT-RTX") != std::string::npos);
#endif
  SessionOptions options;
  options.precision = "int4";
  CHECK_THROWS(UsageError, "no int4 graph, only fp32", Session(open("digits"), options));
  options = {};
  options.backend = BackendKind::tensorrt;
#if !LINGLOS_HAS_TENSORRT
  CHECK_THROWS(BackendError, "built without TensorRT", Session(open("engine"), options));
#endif
  CHECK_THROWS(BackendError, "has no engine", Session(open("digits"), options));
  options = {};
  options.device = DeviceKind::cuda;
  CHECK_THROWS(DeviceError, "cannot use CUDA", Session(open("digits"), options));
  options = {};
  options.contexts = 0;
  CHECK_THROWS(UsageError, "contexts must be from 1", Session(open("digits"), options));
#if !LINGLOS_HAS_TENSORRT
  const auto known = backends();
  CHECK(known.size() == 2 && known[0].name == "onnxruntime" && known[0].usable && known[1].name == "openvino");
#endif
}

TEST(the_manifests_session_options_reach_onnx_runtime) {
  // an option that ONNX Runtime knows, with a value that it refuses
  CHECK_THROWS(BackendError, "", Session(open("options"), threads(1)));
}

TEST(top_k_orders_ties_by_class_and_puts_nan_last) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Output logits{"logits", {2, 4}, {1, 3, 3, 2, nan, 0, -1, nan}};
  const auto first = top_k(logits, 0, 3, {"a", "b"});
  CHECK(first.size() == 3 && first[0].index == 1 && first[1].index == 2 && first[2].index == 3);
  CHECK(first[0].label == "b" && first[1].label.empty());
  const double total = std::exp(-2.0) + 2.0 + std::exp(-1.0);
  CHECK(std::fabs(first[0].probability - 1.0 / total) < 1e-12);
  const auto second = top_k(logits, 1, 9);
  CHECK(second.size() == 4 && second[0].index == 1 && second[1].index == 2 && second[2].index == 0);
  CHECK_THROWS(UsageError, "no image 2", top_k(logits, 2, 1));
  CHECK_THROWS(UsageError, "not a list of logits", top_k({"f", {1, 2, 2, 2}, std::vector<float>(8)}, 0, 1));
}

TEST(input_made_by_a_preprocessor_gives_the_answer_of_the_image) {
  for (const char* name : {"digits", "pixels"}) {
    Session session(open(name), threads(1));
    const Images images(3);
    const Outputs expected = session.run(images.views);
    Preprocessor preprocessor(session.manifest().preprocessing);
    std::vector<float> input(3 * preprocessor.size());
    for (std::size_t i = 0; i < 3; ++i)
      if (session.input() == InputKind::tensor)
        preprocessor.tensor(images.views[i], input.data() + i * preprocessor.size());
      else
        preprocessor.pixels(images.views[i], reinterpret_cast<std::uint8_t*>(input.data()) + i * preprocessor.size());
    Outputs outputs;
    session.run_input(input.data(), 3, outputs);
    CHECK(outputs[0].values == expected[0].values);
  }
}
