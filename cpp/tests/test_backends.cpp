// The same bundle on every backend that is installed, chosen at run time.
#include <cmath>
#include <cstdlib>

#include "check.hpp"
#include "fakes.hpp"
#include "linglos/session.hpp"

using namespace linglos;
using namespace linglos::testing;

namespace {

bool usable(const char* name) {
  for (const auto& backend : backends())
    if (backend.name == name) return backend.usable;
  return false;
}

SessionOptions on(BackendKind backend, int max_batch = 4) {
  SessionOptions options = threads(2, max_batch);
  options.backend = backend;
  return options;
}

}  // namespace

TEST(openvino_answers_as_onnx_runtime_does) {
  if (!usable("openvino")) return;  // the Python test that starts this program sees to it that it is
  for (const char* name : {"digits", "pixels", "features", "fixed"}) {
    Session reference(open(name), on(BackendKind::onnxruntime));
    Session session(open(name), on(BackendKind::openvino));
    CHECK(session.backend() == "openvino" && session.device() == "cpu");
    CHECK(session.reason().find("with OpenVINO on cpu") != std::string::npos);
    for (const std::size_t count : {1U, 3U, 9U, 2U}) {  // batch sizes in turn: bound buffers must follow
      const Images images(count);
      const Outputs expected = reference.run(images.views), found = session.run(images.views);
      CHECK(found.size() == expected.size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].shape == expected[i].shape && found[i].name == expected[i].name);
        for (std::size_t j = 0; j < found[i].values.size(); ++j)
          CHECK(std::fabs(found[i].values[j] - expected[i].values[j]) < 1e-4F * (1 + std::fabs(expected[i].values[j])));
      }
    }
    CHECK(session.self_test().passed);
  }
  CHECK_THROWS(DeviceError, "CPU only", {
    SessionOptions options = on(BackendKind::openvino);
    options.device = DeviceKind::cuda;
    Session session(open("digits"), options);
  });
}

TEST(set_library_needs_a_backend) {
  CHECK_THROWS(UsageError, "by name", set_library(BackendKind::automatic, "x"));
}
