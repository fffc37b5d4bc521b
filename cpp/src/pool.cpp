#include "pool.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace linglos::detail {

class Pool::Lease {
 public:
  explicit Lease(Pool& pool) : pool_(pool) {
    std::unique_lock<std::mutex> lock(pool_.mutex_);
    pool_.released_.wait(lock, [&] { return !pool_.free_.empty(); });
    slot_ = pool_.free_.back();
    pool_.free_.pop_back();
  }
  ~Lease() {
    {
      const std::lock_guard<std::mutex> lock(pool_.mutex_);
      pool_.free_.push_back(slot_);  // within the capacity reserved by the constructor
    }
    pool_.released_.notify_one();
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Slot& operator*() const noexcept { return *slot_; }

 private:
  Pool& pool_;
  Slot* slot_;
};

Pool::Pool(std::unique_ptr<Engine> engine, const Preprocessing& spec, InputKind input, int contexts)
    : engine_(std::move(engine)), input_(input) {
  for (int i = 0; i < contexts; ++i) slots_.push_back({engine_->create_context(), Preprocessor(spec)});
  image_size_ = slots_.front().preprocessor.size();
  for (Slot& slot : slots_) free_.push_back(&slot);
}

void Pool::run(const ImageView* images, std::size_t count, Outputs& outputs) {
  run_filled(count, outputs, [&](Slot& slot, std::size_t image, void* to) {
    if (input_ == InputKind::tensor)
      slot.preprocessor.tensor(images[image], static_cast<float*>(to));
    else
      slot.preprocessor.pixels(images[image], static_cast<std::uint8_t*>(to));
  });
}

void Pool::run_pixels(const std::uint8_t* pixels, std::size_t count, Outputs& outputs) {
  run_filled(count, outputs, [&](Slot& slot, std::size_t image, void* to) {
    const std::uint8_t* from = pixels + image * image_size_;
    if (input_ == InputKind::tensor)
      slot.preprocessor.normalize(from, static_cast<float*>(to));
    else
      std::memcpy(to, from, image_size_);
  });
}

void Pool::run_input(const void* input, std::size_t count, Outputs& outputs) {
  const std::size_t bytes = image_size_ * (input_ == InputKind::tensor ? sizeof(float) : 1);
  run_filled(count, outputs, [&](Slot&, std::size_t image, void* to) {
    std::memcpy(to, static_cast<const std::uint8_t*>(input) + image * bytes, bytes);
  });
}

template <typename Fill>
void Pool::run_filled(std::size_t count, Outputs& outputs, Fill&& fill) {
  const auto& specs = engine_->outputs();
  outputs.resize(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (outputs[i].name != specs[i].name) outputs[i].name = specs[i].name;
    outputs[i].shape = specs[i].shape;
    outputs[i].shape[0] = static_cast<std::int64_t>(count);
    outputs[i].values.resize(count * values_per_image(specs[i]));
  }
  if (count == 0) return;
  const std::size_t stride = image_size_ * (input_ == InputKind::tensor ? sizeof(float) : 1);
  const Lease lease(*this);
  Slot& slot = *lease;
  auto* input = static_cast<std::uint8_t*>(slot.context->input());
  for (std::size_t done = 0; done < count;) {
    const std::size_t batch = std::min(count - done, engine_->max_batch());
    for (std::size_t i = 0; i < batch; ++i) fill(slot, done + i, input + i * stride);
    // a fixed batch is run whole; what is left in it from earlier calls does not matter
    slot.context->run(engine_->fixed_batch() ? engine_->max_batch() : batch);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const std::size_t values = values_per_image(specs[i]);
      std::memcpy(outputs[i].values.data() + done * values, slot.context->output(i), batch * values * sizeof(float));
    }
    done += batch;
  }
}

}  // namespace linglos::detail
