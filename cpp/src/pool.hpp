// An engine with its contexts and preprocessors: what a session is, without threads of its own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "backend.hpp"
#include "linglos/preprocess.hpp"

namespace linglos::detail {

/// Runs lists of images of any length on an engine. Thread-safe; a call waits while all contexts are taken.
class Pool {
 public:
  Pool(std::unique_ptr<Engine> engine, const Preprocessing& spec, InputKind input, int contexts);

  /// Preprocesses and runs; `outputs` keeps its memory from call to call.
  void run(const ImageView* images, std::size_t count, Outputs& outputs);

  /// Runs on pixels that are resized and cropped already: uint8, one image of `image_size()` bytes after the other.
  void run_pixels(const std::uint8_t* pixels, std::size_t count, Outputs& outputs);

  /// Runs on input as the engine takes it.
  void run_input(const void* input, std::size_t count, Outputs& outputs);

  const Engine& engine() const noexcept { return *engine_; }
  std::size_t image_size() const noexcept { return image_size_; }

 private:
  struct Slot {
    std::unique_ptr<Context> context;
    Preprocessor preprocessor;
  };
  class Lease;
  template <typename Fill>  // fill(slot, image index, where to write)
  void run_filled(std::size_t count, Outputs& outputs, Fill&& fill);

  std::unique_ptr<Engine> engine_;
  InputKind input_;
  std::size_t image_size_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::mutex mutex_;
  std::condition_variable released_;
};

}  // namespace linglos::detail
