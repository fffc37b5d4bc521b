// Run the model of a bundle on images.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "linglos/bundle.hpp"
#include "linglos/preprocess.hpp"

namespace linglos {

enum class BackendKind { automatic, onnxruntime, tensorrt, openvino, tensorrt_rtx };
enum class DeviceKind { automatic, cpu, cuda };

/// Names the library file that a backend is loaded from, for the whole process; an empty path goes back to the search.
///
/// Without it a backend's library is the file in the environment variable LINGLOS_ONNXRUNTIME_LIBRARY (or _OPENVINO_,
/// _TENSORRT_, _TENSORRT_RTX_), else it is looked for beside this library or program, in ../lib of that, and where the system's loader looks.
/// Call it before the first session: a library that is loaded stays loaded.
LINGLOS_API void set_library(BackendKind backend, const std::string& path);

/// What this build can use and what it sees on this machine.
struct BackendInfo {
  std::string name;
  std::string version;
  bool usable = false;  ///< False if it is built in but not installed, or cannot run here.
  std::string detail;   ///< What it runs on, or why it cannot run.
};

/// Lists the backends of this build.
LINGLOS_API std::vector<BackendInfo> backends();

/// What submit() does when the queue is full.
enum class Overflow {
  block,       ///< Waits for room; in a callback, which runs on a thread of the session, it refuses instead.
  refuse,      ///< Throws BusyError.
  drop_oldest  ///< Takes the new one; the oldest that waits is answered with BusyError, on the caller's thread.
};

/// How many submissions may wait, besides those that run.
struct QueueOptions {
  std::size_t limit = 64;
  Overflow overflow = Overflow::block;
  std::chrono::milliseconds timeout{0};  ///< Longest wait of Overflow::block before BusyError; 0 waits for ever.
};

/// What became of the submissions to a session or a batcher so far.
struct QueueCounters {
  std::uint64_t submitted = 0;  ///< Taken into the queue.
  std::uint64_t finished = 0;   ///< Run, with an answer or an error.
  std::uint64_t refused = 0;
  std::uint64_t dropped = 0;
  std::size_t waiting = 0;  ///< In the queue now.
  std::size_t longest = 0;  ///< Largest number that ever waited.
};

struct SessionOptions {
  BackendKind backend = BackendKind::automatic;
  DeviceKind device = DeviceKind::automatic;
  int device_index = 0;
  std::string precision;  ///< `fp32`, `fp16`, `bf16`, `int8`, `int8+fp16`, or empty: the best engine, else float32.
  int threads = 0;        ///< Of one run on the CPU; 0 for the backend's choice.
  bool spin = false;      ///< Idle threads wait busily: a little faster alone, slower next to anything else.
  int contexts = 1;       ///< How many calls may run at the same time; each owns buffers for max_batch images.
  int max_batch = 8;      ///< Images per run of the model; a longer list is cut into several runs.
  QueueOptions queue;     ///< Of submit().
};

/// One output for all images of a call: float32, the first dimension is the number of images.
struct Output {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};
using Outputs = std::vector<Output>;

struct Prediction {
  int index = 0;
  std::string label;         ///< Empty if the bundle has no labels.
  double probability = 0.0;  ///< Softmax over all classes, in float64.
  float logit = 0.0F;
};

/// Returns the k largest logits of one image, largest first; `labels` may be empty.
LINGLOS_API std::vector<Prediction> top_k(const Output& logits, std::size_t image, std::size_t k,
                                          const std::vector<std::string>& labels = {});

/// One comparison of a self-test.
struct Check {
  std::string stage;  ///< `preprocessing`, `engine` or `output`.
  std::string name;   ///< What was compared, such as `pixels` or `logits`.
  bool passed = false;
  double max_abs = 0.0;      ///< Largest absolute difference.
  double limit = 0.0;        ///< Largest accepted one, in the same unit.
  std::size_t differing = 0;  ///< Number of values that are not bit-identical.
  std::size_t total = 0;
};

struct SelfTest {
  bool passed = false;
  std::size_t images = 0;
  std::vector<Check> checks;

  /// One line of text: what drifted, and by how much.
  LINGLOS_API std::string summary() const;
};

/// An opened model. Move-only; every member function may be called from several threads at once.
///
/// The destructor finishes what was submitted. After a move the source is empty: functions that return by value throw
/// UsageError, the others return empty values.
class LINGLOS_API Session {
 public:
  using Callback = std::function<void(Outputs&& outputs, std::exception_ptr error)>;

  /// Picks the best engine that fits the machine; reason() says which, and why not a better one.
  ///
  /// Throws DeviceError or BackendError if nothing that the options allow can run here.
  explicit Session(const Bundle& bundle, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Runs the model. The overloads that take `outputs` reuse its memory: after the first call with as many images of
  /// the same size, they allocate nothing.
  Outputs run(const std::vector<ImageView>& images);
  void run(const std::vector<ImageView>& images, Outputs& outputs);
  void run(const ImageView* images, std::size_t count, Outputs& outputs);

  /// Runs the model on input as Preprocessor made it: float32 N x 3 x H x W, or uint8 N x H x W x 3, by input().
  void run_input(const void* input, std::size_t count, Outputs& outputs);

  /// Runs the model on another thread. The pixels must stay alive until the future is ready or the callback is called;
  /// where submit() throws, neither will happen, and they may go at once.
  ///
  /// A callback runs on a thread of the session, is called exactly once, and may destroy the session. What it throws is
  /// swallowed. Throws BusyError if the queue is full, by SessionOptions::queue.
  std::future<Outputs> submit(std::vector<ImageView> images);
  void submit(std::vector<ImageView> images, Callback callback);

  /// What became of the submissions so far.
  QueueCounters queue() const;

  /// Classifies one image with the first output.
  std::vector<Prediction> classify(const ImageView& image, std::size_t k = 5);

  /// Replays the golden images of the bundle. Throws BundleError if it has none.
  SelfTest self_test();

  const Manifest& manifest() const noexcept;
  const std::string& manifest_text() const noexcept;  ///< manifest.json, as it was checked.
  const std::string& backend() const noexcept;    ///< `onnxruntime`, `openvino`, `tensorrt` or `tensorrt-rtx`.
  const std::string& device() const noexcept;     ///< `cpu` or `cuda:N`.
  const std::string& file() const noexcept;       ///< The graph or engine of the bundle that runs.
  const std::string& precision() const noexcept;  ///< Its precision.
  const std::string& reason() const noexcept;     ///< Why this one.
  InputKind input() const noexcept;               ///< What run_input() takes.
  const std::vector<TensorSpec>& outputs() const noexcept;  ///< Outputs for one image: the first dimension is -1.

 private:
  friend class Batcher;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct BatcherOptions {
  std::size_t max_batch = 8;
  std::chrono::microseconds max_delay{2000};  ///< How long the first image of a batch waits for others.
  QueueOptions queue{256, Overflow::block, std::chrono::milliseconds{0}};  ///< Images that may wait.
};

/// Gathers single images from many threads into batches. It keeps the model of its session open.
class LINGLOS_API Batcher {
 public:
  explicit Batcher(Session& session, const BatcherOptions& options = {});
  ~Batcher();  ///< Finishes what was submitted.
  Batcher(Batcher&&) noexcept;
  Batcher& operator=(Batcher&&) noexcept;

  /// The pixels must stay alive until the future is ready. Throws BusyError if the queue is full, by
  /// BatcherOptions::queue.
  std::future<Outputs> submit(const ImageView& image);

  QueueCounters queue() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linglos
