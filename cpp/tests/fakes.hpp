// A backend without a model, and images of many sizes.
#pragma once

#include <atomic>
#include <random>

#include "check.hpp"
#include "pool.hpp"

namespace linglos::testing {

/// Output `sum` of an image is the sum of its input; refuses to run when told to.
class FakeEngine final : public detail::Engine {
 public:
  FakeEngine(std::size_t values, std::size_t max_batch, bool fixed)
      : values_(values), max_batch_(max_batch), fixed_(fixed) {}

  std::unique_ptr<detail::Context> create_context() override { return std::make_unique<FakeContext>(*this); }
  const std::vector<TensorSpec>& outputs() const noexcept override { return outputs_; }
  std::size_t max_batch() const noexcept override { return max_batch_; }
  bool fixed_batch() const noexcept override { return fixed_; }
  const std::string& device() const noexcept override { return device_; }

  std::atomic<int> runs{0};
  std::atomic<int> at_once{0};
  std::atomic<int> most_at_once{0};

 private:
  class FakeContext final : public detail::Context {
   public:
    explicit FakeContext(FakeEngine& engine)
        : engine_(engine), input_(engine.values_ * engine.max_batch_), output_(2 * engine.max_batch_) {}
    void* input() noexcept override { return input_.data(); }
    const float* output(std::size_t) const noexcept override { return output_.data(); }
    void run(std::size_t batch) override {
      ++engine_.runs;
      const int now = ++engine_.at_once;
      for (int most = engine_.most_at_once; now > most && !engine_.most_at_once.compare_exchange_weak(most, now);) {
      }
      if (engine_.fixed_ && batch != engine_.max_batch_) throw BackendError("a fixed batch was not kept");
      for (std::size_t i = 0; i < batch; ++i) {
        output_[2 * i] = output_[2 * i + 1] = 0.0F;
        for (std::size_t j = 0; j < engine_.values_; ++j) output_[2 * i] += input_[i * engine_.values_ + j];
      }
      --engine_.at_once;
    }

   private:
    FakeEngine& engine_;
    std::vector<float> input_;
    std::vector<float> output_;
  };

  std::size_t values_;
  std::size_t max_batch_;
  bool fixed_;
  std::vector<TensorSpec> outputs_ = {{"sum", "float32", {-1, 2}}};
  std::string device_ = "cpu";
};

inline Preprocessing small() { return {6, 8, Interpolation::bicubic, 0.9, {0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}}; }

inline std::vector<std::uint8_t> noise(std::size_t count, unsigned int seed = 1) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> values(count);
  for (auto& value : values) value = static_cast<std::uint8_t>(random());
  return values;
}

struct Images {
  explicit Images(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const int width = 5 + static_cast<int>(i % 7) * 9, height = 60 - static_cast<int>(i % 5) * 11;
      pixels.push_back(noise(static_cast<std::size_t>(width * height * 3), static_cast<unsigned int>(i)));
      views.push_back({pixels.back().data(), width, height});
    }
  }
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<ImageView> views;
};

inline Bundle open(const char* name) { return Bundle::open(check::bundles() + "/" + name); }

inline SessionOptions threads(int contexts, int max_batch = 4) {
  SessionOptions options;
  options.threads = 1;
  options.contexts = contexts;
  options.max_batch = max_batch;
  return options;
}

}  // namespace linglos::testing
