// linglos-selftest: does this machine compute what the machine that made the bundle computed?
#include <iostream>

#include "command_line.hpp"

using namespace linglos;
using namespace linglos::tools;

namespace {

constexpr const char* kHelp =
    "usage: linglos-selftest BUNDLE [options]\n\n"
    "Check every byte of a bundle, then replay its golden images. Exit code 0: all is reproduced; 1: something drifted.\n\n"
    "  --check-only                          check the files, run nothing\n"
    "  --list-backends                       say what this build can run, and stop\n";

int list_backends() {
  for (const BackendInfo& info : backends())
    std::cout << info.name << (info.version.empty() ? "" : " ") << info.version
              << (info.usable ? ": " : ": not usable here: ") << info.detail << '\n';
  return kPassed;
}

void print_json(const Session& session, const SelfTest& report) {
  std::cout << "{\"passed\": " << json(report.passed) << ", \"backend\": " << json(session.backend())
            << ", \"device\": " << json(session.device()) << ", \"file\": " << json(session.file())
            << ", \"reason\": " << json(session.reason()) << ", \"images\": " << report.images << ", \"checks\": [";
  for (std::size_t i = 0; i < report.checks.size(); ++i) {
    const Check& check = report.checks[i];
    std::cout << (i == 0 ? "" : ", ") << "{\"stage\": " << json(check.stage) << ", \"name\": " << json(check.name)
              << ", \"passed\": " << json(check.passed) << ", \"max_abs\": " << json(check.max_abs)
              << ", \"limit\": " << json(check.limit) << ", \"differing\": " << check.differing
              << ", \"total\": " << check.total << "}";
  }
  std::cout << "]}\n";
}

int selftest(Arguments arguments) {
  SessionOptions options;
  bool as_json = false, check_only = false;
  std::string path;
  while (!arguments.empty()) {
    const std::string word = arguments.take();
    if (word == "-h" || word == "--help") return std::cout << kHelp << kSessionHelp, kPassed;
    if (word == "--list-backends") return list_backends();
    if (word == "--json") as_json = true;
    else if (word == "--check-only") check_only = true;
    else if (session_option(word, arguments, options)) continue;
    else if (!path.empty() || word[0] == '-') throw UsageError("There is no option '" + word + "'; see --help.");
    else path = word;
  }
  if (path.empty()) throw UsageError("linglos-selftest needs a bundle; see --help.");
  const Bundle bundle = Bundle::open(path);
  if (check_only) {
    std::cout << bundle.manifest().name << ": all " << bundle.manifest().files.size() << " files are as they were made\n";
    return kPassed;
  }
  Session session(bundle, options);
  const SelfTest report = session.self_test();
  if (as_json)
    print_json(session, report);
  else
    std::cout << session.reason() << '\n' << report.summary() << '\n';
  return report.passed ? kPassed : kFailedVerdict;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("linglos-selftest", [&] { return selftest(Arguments(argc, argv)); });
}
