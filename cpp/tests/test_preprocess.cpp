#include <cstring>
#include <random>

#include "check.hpp"
#include "resize.hpp"

using namespace linglos;

namespace {

Preprocessing spec(int height, int width, Interpolation filter = Interpolation::bicubic, double crop = 1.0) {
  return {height, width, filter, crop, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
}

std::vector<std::uint8_t> noise(std::size_t count) {
  std::mt19937 random(1);
  std::vector<std::uint8_t> values(count);
  for (auto& value : values) value = static_cast<std::uint8_t>(random());
  return values;
}

std::vector<float> tensor(Preprocessor& preprocessor, const ImageView& image) {
  std::vector<float> out(preprocessor.size());
  preprocessor.tensor(image, out.data());
  return out;
}

}  // namespace

TEST(an_image_of_the_right_size_is_only_normalized) {
  Preprocessor preprocessor(spec(5, 7));
  const auto pixels = noise(5 * 7 * 3);
  std::vector<std::uint8_t> out(preprocessor.size());
  preprocessor.pixels({pixels.data(), 7, 5}, out.data());
  CHECK(out == pixels);
  const auto values = tensor(preprocessor, {pixels.data(), 7, 5});
  const float difference = static_cast<float>(pixels[1]) - static_cast<float>(255.0 * 0.456);
  CHECK(values[35] == difference / static_cast<float>(255.0 * 0.224));
}

TEST(bgr_is_rgb_with_channels_exchanged) {
  Preprocessor preprocessor(spec(16, 24));
  const auto rgb = noise(40 * 30 * 3);
  auto bgr = rgb;
  for (std::size_t i = 0; i < bgr.size(); i += 3) std::swap(bgr[i], bgr[i + 2]);
  CHECK(tensor(preprocessor, {rgb.data(), 40, 30}) ==
        tensor(preprocessor, {bgr.data(), 40, 30, 0, PixelFormat::bgr}));
  std::vector<std::uint8_t> a(preprocessor.size()), b(preprocessor.size());
  preprocessor.pixels({rgb.data(), 40, 30}, a.data());
  preprocessor.pixels({bgr.data(), 40, 30, 0, PixelFormat::bgr}, b.data());
  CHECK(a == b);
}

TEST(rows_may_be_padded) {
  Preprocessor preprocessor(spec(16, 24));
  const auto packed = noise(40 * 30 * 3);
  std::vector<std::uint8_t> padded(30 * 128 - 8);  // nothing behind the last row
  for (std::size_t y = 0; y < 30; ++y) std::memcpy(padded.data() + y * 128, packed.data() + y * 120, 120);
  CHECK(tensor(preprocessor, {packed.data(), 40, 30}) == tensor(preprocessor, {padded.data(), 40, 30, 128}));
}

TEST(results_do_not_depend_on_what_came_before) {
  Preprocessor used(spec(17, 9, Interpolation::bilinear, 0.875));
  const auto pixels = noise(64 * 64 * 3);
  for (const auto& [width, height] : {std::pair{64, 64}, {1, 64}, {64, 1}, {3, 5}, {9, 17}, {64, 64}, {10, 19}}) {
    Preprocessor fresh(spec(17, 9, Interpolation::bilinear, 0.875));
    CHECK(tensor(used, {pixels.data(), width, height}) == tensor(fresh, {pixels.data(), width, height}));
  }
}

TEST(pixels_then_normalize_is_tensor) {
  Preprocessor preprocessor(spec(16, 24));
  const auto pixels = noise(40 * 30 * 3);
  std::vector<std::uint8_t> resized(preprocessor.size());
  std::vector<float> normalized(preprocessor.size());
  preprocessor.pixels({pixels.data(), 40, 30}, resized.data());
  preprocessor.normalize(resized.data(), normalized.data());
  CHECK(normalized == tensor(preprocessor, {pixels.data(), 40, 30}));
}

TEST(a_constant_image_stays_constant) {
  for (const auto filter : {Interpolation::bilinear, Interpolation::bicubic}) {
    Preprocessor preprocessor(spec(13, 11, filter, 0.9));
    for (const int value : {0, 1, 127, 254, 255}) {
      const std::vector<std::uint8_t> pixels(37 * 91 * 3, static_cast<std::uint8_t>(value));
      std::vector<std::uint8_t> out(preprocessor.size());
      preprocessor.pixels({pixels.data(), 37, 91}, out.data());
      CHECK(out == std::vector<std::uint8_t>(preprocessor.size(), static_cast<std::uint8_t>(value)));
    }
  }
}

TEST(impossible_images_and_specifications_are_refused) {
  Preprocessor preprocessor(spec(4, 4));
  const auto pixels = noise(48);
  std::vector<float> out(preprocessor.size());
  CHECK_THROWS(UsageError, "must have pixels", preprocessor.tensor({nullptr, 4, 4}, out.data()));
  CHECK_THROWS(UsageError, "must have pixels", preprocessor.tensor({pixels.data(), 0, 4}, out.data()));
  CHECK_THROWS(UsageError, "must have pixels", preprocessor.tensor({pixels.data(), 4, -1}, out.data()));
  CHECK_THROWS(UsageError, "at most", preprocessor.tensor({pixels.data(), 1 << 25, 1}, out.data()));
  CHECK_THROWS(UsageError, "stride", preprocessor.tensor({pixels.data(), 4, 4, 11}, out.data()));
  CHECK_THROWS(UsageError, "stride", preprocessor.tensor({pixels.data(), 4, 4, -12}, out.data()));
  CHECK_THROWS(UsageError, "input size", Preprocessor(spec(0, 4)));
  CHECK_THROWS(UsageError, "input size", Preprocessor(spec(4, 1 << 20)));
  CHECK_THROWS(UsageError, "crop_pct", Preprocessor(spec(4, 4, Interpolation::bicubic, 1.5)));
}

TEST(every_processor_computes_the_same_bits) {
  const struct Restore {
    ~Restore() { detail::use_kernels(nullptr); }
  } restore;
  std::mt19937 random(9);
  const auto below = [&](int limit) { return 1 + static_cast<int>(random() % static_cast<unsigned int>(limit)); };
  for (int turn = 0; turn < 300; ++turn) {
    const int width = below(turn % 10 == 0 ? 900 : 80), height = below(turn % 10 == 0 ? 300 : 80);
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(width * height * 3));
    for (auto& value : pixels) value = static_cast<std::uint8_t>(random());
    if (turn % 3 == 0)
      for (auto& value : pixels) value = value < 128 ? 0 : 255;  // sums that leave 0 to 255
    Preprocessor preprocessor(spec(below(70), below(70), turn % 2 == 0 ? Interpolation::bilinear : Interpolation::bicubic,
                                   0.3 + 0.7 * (turn % 8) / 8));
    std::vector<std::uint8_t> scalar(preprocessor.size()), best(preprocessor.size());
    detail::use_kernels(&detail::scalar_kernels());
    preprocessor.pixels({pixels.data(), width, height}, scalar.data());
    detail::use_kernels(&detail::best_kernels());
    preprocessor.pixels({pixels.data(), width, height}, best.data());
    CHECK(scalar == best);
  }
}

TEST(frames_that_cannot_be_are_refused) {
  Preprocessor preprocessor(spec(4, 4));
  const auto pixels = noise(64);
  std::vector<float> out(preprocessor.size());
  const auto refused = [&](const char* part, auto&& change) {
    ImageView view;
    view.data = pixels.data();
    view.width = view.height = 4;
    change(view);
    CHECK_THROWS(UsageError, part, preprocessor.tensor(view, out.data()));
  };
  for (const Region& region : {Region{0, 0, 5, 4}, {1, 1, 4, 1}, {-1, 0, 2, 2}, {0, 0, 0, 2}, {0, 0, 2, -2},
                               {2147483647, 0, 2147483647, 1}})
    refused("region", [&](ImageView& view) { view.region = region; });
  refused("pixel format", [](ImageView& view) { view.format = static_cast<PixelFormat>(7); });
  refused("turned by", [](ImageView& view) { view.rotation = static_cast<Rotation>(4); });
  refused("BT.601", [](ImageView& view) { view.matrix = static_cast<YuvMatrix>(2); });
  refused("stride", [](ImageView& view) { view.format = PixelFormat::bgra, view.stride = 15; });
  refused("stride", [](ImageView& view) { view.format = PixelFormat::yuyv, view.stride = 7; });
  refused("chroma stride", [](ImageView& view) { view.format = PixelFormat::nv12, view.chroma_stride = 3; });
}

TEST(four_quarter_turns_are_none) {
  const auto pixels = noise(40 * 30 * 3);
  Preprocessor wide(spec(30, 40, Interpolation::bicubic, 1.0)), high(spec(40, 30, Interpolation::bicubic, 1.0));
  std::vector<std::uint8_t> image = pixels, turned(wide.size());
  for (int turn = 0; turn < 4; ++turn) {
    const bool lies = turn % 2 == 0;
    ImageView view;
    view.data = image.data();
    view.width = lies ? 40 : 30;
    view.height = lies ? 30 : 40;
    view.rotation = Rotation::clockwise_90;
    (lies ? high : wide).pixels(view, turned.data());
    CHECK(turned != image);
    image = turned;
  }
  CHECK(image == pixels);
}

TEST(a_crop_begins_where_torchvision_s_begins) {
  const std::int64_t expected[] = {0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6};  // round(n / 2), halves to the even neighbour
  for (std::int64_t more = 0; more < 12; ++more) CHECK(detail::crop_offset(224 + more, 224) == expected[more]);
  CHECK(detail::crop_offset(303, 288) == 8);
}

TEST(scale_is_the_value_that_counts_as_one) {
  Preprocessing raw = spec(5, 7);
  raw.scale = 1.0;
  raw.mean = {100.0, 110.0, 120.0};
  raw.std_dev = {2.0, 4.0, 8.0};
  Preprocessor preprocessor(raw);
  const auto pixels = noise(5 * 7 * 3);
  CHECK(tensor(preprocessor, {pixels.data(), 7, 5})[35] == (static_cast<float>(pixels[1]) - 110.0F) / 4.0F);
  raw.scale = 0.5;
  CHECK_THROWS(UsageError, "scale", Preprocessor{raw});
}

TEST(the_resized_image_just_covers_the_target) {
  for (std::int64_t height = 1; height < 60; height += 7)
    for (std::int64_t width = 1; width < 60; width += 5) {
      const auto found = detail::resized_shape(height, width, {23, 31});
      CHECK(found.height >= 23 && found.width >= 31 && (found.height == 23 || found.width == 31));
    }
}
