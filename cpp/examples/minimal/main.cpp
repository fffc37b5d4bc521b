// The smallest program: open a bundle, make sure it computes what it should, classify one image.
#include <iostream>
#include <linglos/linglos.hpp>

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "usage: linglos-minimal BUNDLE\n", 2;
  try {
    linglos::Session session(linglos::Bundle::open(argv[1]));
    std::cout << session.reason() << '\n' << session.self_test().summary() << '\n';

    const std::vector<std::uint8_t> grey(640 * 480 * 3, 128);  // your camera's pixels
    for (const auto& prediction : session.classify({grey.data(), 640, 480}, 3))
      std::cout << prediction.probability << ' ' << prediction.index << ' ' << prediction.label << '\n';
  } catch (const linglos::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
