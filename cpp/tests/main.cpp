#include "check.hpp"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: linglos-unit FOLDER_WITH_BUNDLES [PART_OF_A_NAME]\n";
    return 2;
  }
  check::bundles() = argv[1];
  const std::string part = argc > 2 ? argv[2] : "";
  int failed = 0, run = 0;
  for (const auto& test : check::tests()) {
    if (std::string(test.name).find(part) == std::string::npos) continue;
    ++run;
    try {
      test.body();
    } catch (const std::exception& error) {
      ++failed;
      std::cout << "FAILED " << test.name << "\n  " << error.what() << '\n';
    }
  }
  std::cout << run - failed << " of " << run << " tests passed\n";
  return failed == 0 && run > 0 ? 0 : 1;
}
