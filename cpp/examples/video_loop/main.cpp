// Classifies raw RGB frames from standard input while the next ones are read:
//
//   ffmpeg -i video.mp4 -f rawvideo -pix_fmt rgb24 -s 1280x720 - | linglos-video-loop BUNDLE 1280 720
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <linglos/linglos.hpp>

namespace {

constexpr std::size_t kInFlight = 3;  // frames that are being classified while one is read

struct Frame {
  std::vector<std::uint8_t> pixels;
  std::future<linglos::Outputs> answer;
};

void print(std::size_t number, Frame& frame, const std::vector<std::string>& labels) {
  const auto outputs = frame.answer.get();
  const auto best = linglos::top_k(outputs.front(), 0, 1, labels).front();
  std::cout << number << ' ' << best.index << ' ' << best.label << ' ' << best.probability << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::cerr << "usage: linglos-video-loop BUNDLE WIDTH HEIGHT < RGB24\n", 2;
  const int width = std::atoi(argv[2]), height = std::atoi(argv[3]);
  if (width < 1 || height < 1 || width > 16384 || height > 16384) return std::cerr << "a strange size\n", 2;
  try {
    std::array<Frame, kInFlight> ring;  // goes after the session, which finishes what reads these pixels
    for (auto& frame : ring) frame.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
    linglos::SessionOptions options;
    options.max_batch = 1;
    options.contexts = 2;
    linglos::Session session(linglos::Bundle::open(argv[1]), options);
    std::cerr << session.reason() << '\n';

    std::size_t read = 0, printed = 0;
    for (;; ++read) {
      Frame& frame = ring[read % kInFlight];
      if (read - printed == kInFlight) print(printed++, frame, session.manifest().labels);
      if (std::fread(frame.pixels.data(), 1, frame.pixels.size(), stdin) != frame.pixels.size()) break;
      frame.answer = session.submit({{frame.pixels.data(), width, height}});
    }
    while (printed < read) {
      print(printed, ring[printed % kInFlight], session.manifest().labels);
      ++printed;
    }
  } catch (const linglos::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
