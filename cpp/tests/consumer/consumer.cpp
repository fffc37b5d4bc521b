// Runs the public C++ API on what the tests send to standard input; answers go to standard output, in binary.
//
//   consumer preprocess      cases of: int32 height, width, input height, input width, filter; float64 crop_pct,
//                            mean[3], std[3]; pixels                     -> float32 tensor of each
//   consumer frames          cases of: int32 width, height, stride, format, rotation, where chroma begins or -1, chroma
//                            stride, region x, y, width, height, matrix, range, input height, input width, threads,
//                            bytes; bytes                                -> uint8 pixels of each
//   consumer run BUNDLE      cases of: int32 height, width; pixels       -> float32 values of all outputs of each
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <linglos/linglos.hpp>

namespace {

bool read(void* to, std::size_t size) { return std::fread(to, 1, size, stdin) == size; }

std::vector<std::uint8_t> read_pixels(int height, int width) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3);
  if (!read(pixels.data(), pixels.size())) throw linglos::UsageError("the input ends inside an image");
  return pixels;
}

void write(const std::vector<float>& values) { std::fwrite(values.data(), sizeof(float), values.size(), stdout); }

int preprocess() {
  std::int32_t sizes[5];
  double numbers[7];
  while (read(sizes, sizeof sizes) && read(numbers, sizeof numbers)) {
    linglos::Preprocessing spec;
    spec.height = sizes[2];
    spec.width = sizes[3];
    spec.interpolation = sizes[4] == 0 ? linglos::Interpolation::bilinear : linglos::Interpolation::bicubic;
    spec.crop_pct = numbers[0];
    std::memcpy(spec.mean.data(), numbers + 1, 3 * sizeof(double));
    std::memcpy(spec.std_dev.data(), numbers + 4, 3 * sizeof(double));
    const auto pixels = read_pixels(sizes[0], sizes[1]);
    linglos::Preprocessor preprocessor(spec);
    std::vector<float> out(preprocessor.size());
    preprocessor.tensor({pixels.data(), sizes[1], sizes[0]}, out.data());
    write(out);
  }
  return 0;
}

int frames() {
  std::int32_t n[17];
  while (read(n, sizeof n)) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n[16]));
    if (!read(bytes.data(), bytes.size())) throw linglos::UsageError("the input ends inside a frame");
    linglos::ImageView image;
    image.data = bytes.data();
    image.width = n[0];
    image.height = n[1];
    image.stride = n[2];
    image.format = static_cast<linglos::PixelFormat>(n[3]);
    image.rotation = static_cast<linglos::Rotation>(n[4]);
    if (n[5] >= 0) image.chroma = bytes.data() + n[5];
    image.chroma_stride = n[6];
    image.region = {n[7], n[8], n[9], n[10]};
    image.matrix = static_cast<linglos::YuvMatrix>(n[11]);
    image.range = static_cast<linglos::YuvRange>(n[12]);
    linglos::Preprocessing spec;
    spec.height = n[13];
    spec.width = n[14];
    spec.std_dev = {1, 1, 1};
    linglos::Preprocessor preprocessor(spec);
    std::vector<std::uint8_t> out(preprocessor.size());
    preprocessor.pixels(image, out.data());
    std::fwrite(out.data(), 1, out.size(), stdout);
  }
  return 0;
}

int run(const char* path) {
  linglos::SessionOptions options;
  options.threads = 1;
  linglos::Session session(linglos::Bundle::open(path), options);
  std::int32_t size[2];
  linglos::Outputs outputs;
  while (read(size, sizeof size)) {
    const auto pixels = read_pixels(size[0], size[1]);
    session.run({{pixels.data(), size[1], size[0]}}, outputs);
    for (const auto& output : outputs) write(output.values);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 2 && std::strcmp(argv[1], "preprocess") == 0) return preprocess();
    if (argc == 2 && std::strcmp(argv[1], "frames") == 0) return frames();
    if (argc == 3 && std::strcmp(argv[1], "run") == 0) return run(argv[2]);
    std::cerr << "usage: consumer preprocess | consumer frames | consumer run BUNDLE\n";
    return 2;
  } catch (const linglos::Error& error) {
    std::cerr << error.what() << '\n';
    return 10 + static_cast<int>(error.code());
  }
}
