// A program without exceptions: every error is a value.
#include <future>
#include <iostream>
#include <linglos/linglos.hpp>

#if defined(__cpp_exceptions)
#error "compile this with -fno-exceptions"
#endif

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto missing = linglos::try_open("/nowhere");
  if (missing || missing.failure().code != linglos::ErrorCode::bundle) return 10;
  if (missing.failure().message.find("is not a bundle") == std::string::npos) return 11;
  const auto bundle = linglos::try_open(argv[1]);
  if (!bundle) return 12;
  linglos::SessionOptions wrong;
  wrong.contexts = 0;
  if (linglos::try_session(bundle.value(), wrong)) return 13;
  linglos::SessionOptions options;
  options.threads = 1;
  auto opened = linglos::try_session(bundle.value(), options);
  if (!opened) return 14;
  linglos::Session session = std::move(opened).value();

  const std::vector<std::uint8_t> pixels(16 * 16 * 3, 77);
  linglos::ImageView image;
  image.data = pixels.data();
  image.width = image.height = 16;
  linglos::ImageView nothing = image;
  nothing.data = nullptr;
  linglos::Outputs outputs;
  if (!linglos::try_run(session, {image, image}, outputs) || outputs[0].shape[0] != 2) return 15;
  const auto refused = linglos::try_run(session, {nothing}, outputs);
  if (refused || refused.failure().code != linglos::ErrorCode::usage) return 16;
  const auto best = linglos::try_classify(session, image, 3);
  if (!best || best.value().size() != 3) return 17;
  for (const bool works : {true, false}) {
    std::promise<bool> answer;
    auto submitted = linglos::try_submit(session, {works ? image : nothing}, [&](linglos::Result<linglos::Outputs>&& found) {
      answer.set_value(works ? found && found.value().size() == 1 : !found && !found.failure().message.empty());
    });
    if (!submitted || !answer.get_future().get()) return 18;
  }
  if (linglos::try_submit(session, {image}, nullptr)) return 19;
  const auto report = linglos::try_self_test(session);
  if (!report) return 20;
  std::cout << report.value().summary() << '\n';
  linglos::Session taken = std::move(session);
  const auto gone = linglos::try_classify(session, image);  // NOLINT(bugprone-use-after-move): that it says so
  return gone || gone.failure().code != linglos::ErrorCode::usage ? 21 : 0;
}
