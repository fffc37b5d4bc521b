// Times the preprocessing of one image on one thread, for benchmarks/preprocessing.py:
//
//   linglos-preprocess-bench WIDTH HEIGHT bilinear|bicubic FORMAT RUNS     -> milliseconds of each run, scalar then best
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "linglos/preprocess.hpp"
#include "resample.hpp"

using namespace linglos;

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  constexpr const char* kFormats[] = {"rgb", "bgr", "grey", "rgba", "bgra", "nv12", "yuyv"};
  ImageView image;
  image.width = std::atoi(argv[1]);
  image.height = std::atoi(argv[2]);
  for (int i = 0; i < 7; ++i)
    if (std::strcmp(argv[4], kFormats[i]) == 0) image.format = static_cast<PixelFormat>(i);
  Preprocessing spec;
  spec.interpolation = std::strcmp(argv[3], "bilinear") == 0 ? Interpolation::bilinear : Interpolation::bicubic;
  spec.mean = {0.485, 0.456, 0.406};
  spec.std_dev = {0.229, 0.224, 0.225};
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * 4);
  std::mt19937 random(1);
  for (auto& value : pixels) value = static_cast<std::uint8_t>(random());
  image.data = pixels.data();
  Preprocessor preprocessor(spec);
  std::vector<std::uint8_t> out(preprocessor.size());
  for (const detail::Kernels* kernels : {&detail::scalar_kernels(), &detail::best_kernels()}) {
    detail::use_kernels(kernels);
    std::printf("%s", kernels->name);
    for (int run = 0; run < std::atoi(argv[5]); ++run) {
      const auto begin = std::chrono::steady_clock::now();
      preprocessor.pixels(image, out.data());
      const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
      std::printf(" %.4f", took.count());
    }
    std::printf("\n");
  }
}
