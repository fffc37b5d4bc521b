#include "linglos.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "linglos/linglos.hpp"

struct linglos_session {
  linglos::Session session;
};

struct linglos_outputs {
  linglos::Outputs outputs;
  std::vector<linglos::ImageView> images;  // scratch
};

namespace {

thread_local std::string last_error;

void remember(const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
}

/// Turns the exception that is being handled into a code and a message.
int remembered_error() noexcept {
  try {
    throw;
  } catch (const linglos::Error& error) {
    remember(error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    remember("No memory left.");
  } catch (const std::exception& error) {
    remember(error.what());
  } catch (...) {
    remember("an exception of unknown kind");
  }
  return LINGLOS_ERROR_INTERNAL;
}

template <typename Call>
int guarded(Call&& call) noexcept {
  try {
    last_error.clear();
    call();
    return LINGLOS_OK;
  } catch (...) {
    return remembered_error();
  }
}

template <typename Enum>
Enum choice(const char* name, int value, int last) {
  if (value < 0 || value > last)
    throw linglos::UsageError(std::string(name) + " must be from 0 to " + std::to_string(last) + ", found " +
                              std::to_string(value) + ".");
  return static_cast<Enum>(value);
}

void require(bool condition, const char* what) {
  if (!condition) throw linglos::UsageError(std::string(what) + " must not be NULL.");
}

/// The structure of 0.1.0 ended behind max_batch, with four bytes of padding.
constexpr std::size_t kFirstSize = offsetof(linglos_options, spin);
static_assert(sizeof(void*) != 8 || kFirstSize == 48, "the layout of 0.1.0 has changed");

/// The defaults of every field, as this version knows them.
linglos_options default_options() noexcept {
  const linglos::SessionOptions defaults;
  linglos_options options = {};
  options.size = sizeof options;
  options.device_index = defaults.device_index;
  options.threads = defaults.threads;
  options.contexts = defaults.contexts;
  options.max_batch = defaults.max_batch;
  options.spin = defaults.spin ? 1 : 0;
  options.queue_overflow = static_cast<int>(defaults.queue.overflow);
  options.queue_limit = defaults.queue.limit;
  options.queue_timeout_ms = defaults.queue.timeout.count();
  return options;
}

void fill(linglos_options* options, std::size_t size) noexcept {
  if (options == nullptr || size < sizeof options->size) return;
  const linglos_options defaults = default_options();
  std::memset(options, 0, size);  // fields that only a later version knows are 0 for their default
  std::memcpy(options, &defaults, std::min(size, sizeof defaults));
  options->size = size;
}

/// Reads what the caller's structure has; the rest keeps its default.
linglos::SessionOptions convert(const linglos_options* given) {
  linglos_options read = default_options();
  if (given != nullptr) {
    const std::size_t size = given->size;
    if (size < kFirstSize || size > 65536)
      throw linglos::UsageError("Fill linglos_options with linglos_options_init(): found a size of " +
                                std::to_string(size) + ".");
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t i = sizeof read; i < size; ++i)
      if (bytes[i] != 0)
        throw linglos::UsageError("linglos_options asks for something that version " LINGLOS_VERSION
                                  " of the library does not know; install a later one.");
    std::memcpy(&read, given, std::min(size, sizeof read));
  }
  linglos::SessionOptions options;
  options.backend = choice<linglos::BackendKind>("backend", read.backend, LINGLOS_BACKEND_TENSORRT_RTX);
  options.device = choice<linglos::DeviceKind>("device", read.device, LINGLOS_DEVICE_CUDA);
  options.device_index = read.device_index;
  options.precision = read.precision == nullptr ? "" : read.precision;
  options.threads = read.threads;
  options.contexts = read.contexts;
  options.max_batch = read.max_batch;
  options.spin = read.spin != 0;
  options.queue.overflow = choice<linglos::Overflow>("queue_overflow", read.queue_overflow, LINGLOS_OVERFLOW_DROP_OLDEST);
  options.queue.limit = read.queue_limit;
  options.queue.timeout = std::chrono::milliseconds(read.queue_timeout_ms);
  return options;
}

std::vector<linglos::ImageView>& convert(const linglos_image* images, size_t count,
                                         std::vector<linglos::ImageView>& views) {
  require(images != nullptr || count == 0, "images");
  views.clear();
  for (size_t i = 0; i < count; ++i)
    views.push_back({images[i].data, images[i].width, images[i].height, images[i].stride,
                     choice<linglos::PixelFormat>("format", images[i].format, LINGLOS_YUYV)});
  return views;
}

/// Reads what the caller's structures have; the rest keeps its default.
std::vector<linglos::ImageView>& convert(const linglos_frame* frames, size_t size, size_t count,
                                         std::vector<linglos::ImageView>& views) {
  require(frames != nullptr || count == 0, "frames");
  if (size < sizeof frames->data || size > 65536)
    throw linglos::UsageError("frame_size must be sizeof(linglos_frame), found " + std::to_string(size) + ".");
  views.clear();
  const auto* bytes = reinterpret_cast<const unsigned char*>(frames);
  for (size_t i = 0; i < count; ++i, bytes += size) {
    linglos_frame read = {};
    std::memcpy(&read, bytes, std::min(size, sizeof read));
    for (std::size_t extra = sizeof read; extra < size; ++extra)
      if (bytes[extra] != 0)
        throw linglos::UsageError("linglos_frame asks for something that version " LINGLOS_VERSION
                                  " of the library does not know; install a later one.");
    linglos::ImageView view;
    view.data = read.data;
    view.width = read.width;
    view.height = read.height;
    view.stride = read.stride;
    view.format = choice<linglos::PixelFormat>("format", read.format, LINGLOS_YUYV);
    view.region = {read.region_x, read.region_y, read.region_width, read.region_height};
    view.rotation = choice<linglos::Rotation>("rotation", read.rotation, LINGLOS_ROTATION_270);
    view.chroma = read.chroma;
    view.chroma_stride = read.chroma_stride;
    view.matrix = choice<linglos::YuvMatrix>("matrix", read.matrix, LINGLOS_BT709);
    view.range = choice<linglos::YuvRange>("range", read.range, LINGLOS_RANGE_FULL);
    views.push_back(view);
  }
  return views;
}

/// Submits images whose answer goes to a callback of the C API.
void submit(linglos_session& session, std::vector<linglos::ImageView> views, linglos_callback callback, void* user) {
  session.session.submit(std::move(views), [=](linglos::Outputs&& found, const std::exception_ptr& error) {
    linglos_outputs outputs;
    int code = LINGLOS_OK;
    if (error) {
      try {
        std::rethrow_exception(error);
      } catch (...) {
        code = remembered_error();
      }
    } else {
      last_error.clear();
      outputs.outputs = std::move(found);
    }
    std::string message;  // a copy: the callback may call functions that replace it
    try {
      message = last_error;
    } catch (const std::bad_alloc&) {  // it is called all the same
    }
    callback(user, code, message.c_str(), &outputs);
  });
}

}  // namespace

extern "C" {

const char* linglos_version(void) { return LINGLOS_VERSION; }

const char* linglos_last_error(void) { return last_error.c_str(); }

int linglos_set_library(int backend, const char* path) {
  return guarded([&] {
    linglos::set_library(choice<linglos::BackendKind>("backend", backend, LINGLOS_BACKEND_TENSORRT_RTX),
                         path == nullptr ? "" : path);
  });
}

LINGLOS_API void linglos_options_init(linglos_options* options);  // of programs that were compiled with 0.1.0
void linglos_options_init(linglos_options* options) { fill(options, kFirstSize); }

void linglos_options_init_sized(linglos_options* options, size_t size) { fill(options, size); }

int linglos_session_open(const char* bundle, const linglos_options* options, linglos_session** session) {
  return guarded([&] {
    require(bundle != nullptr, "bundle");
    require(session != nullptr, "session");
    *session = nullptr;
    const auto converted = convert(options);
    *session = new linglos_session{linglos::Session(linglos::Bundle::open(bundle), converted)};
  });
}

void linglos_session_close(linglos_session* session) { delete session; }

const char* linglos_session_backend(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.backend().c_str();
}

const char* linglos_session_device(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.device().c_str();
}

const char* linglos_session_file(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.file().c_str();
}

const char* linglos_session_precision(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.precision().c_str();
}

const char* linglos_session_manifest(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.manifest_text().c_str();
}

const char* linglos_session_reason(const linglos_session* session) {
  return session == nullptr ? nullptr : session->session.reason().c_str();
}

const char* linglos_session_label(const linglos_session* session, size_t index) {
  if (session == nullptr || index >= session->session.manifest().labels.size()) return nullptr;
  return session->session.manifest().labels[index].c_str();
}

int linglos_outputs_create(linglos_outputs** outputs) {
  return guarded([&] {
    require(outputs != nullptr, "outputs");
    *outputs = new linglos_outputs;
  });
}

void linglos_outputs_free(linglos_outputs* outputs) { delete outputs; }

int linglos_session_run(linglos_session* session, const linglos_image* images, size_t count,
                        linglos_outputs* outputs) {
  return guarded([&] {
    require(session != nullptr, "session");
    require(outputs != nullptr, "outputs");
    session->session.run(convert(images, count, outputs->images), outputs->outputs);
  });
}

int linglos_session_submit(linglos_session* session, const linglos_image* images, size_t count,
                           linglos_callback callback, void* user) {
  return guarded([&] {
    require(session != nullptr, "session");
    require(callback != nullptr, "callback");
    std::vector<linglos::ImageView> views;
    convert(images, count, views);
    submit(*session, std::move(views), callback, user);
  });
}

int linglos_session_run_frames(linglos_session* session, const linglos_frame* frames, size_t frame_size, size_t count,
                               linglos_outputs* outputs) {
  return guarded([&] {
    require(session != nullptr, "session");
    require(outputs != nullptr, "outputs");
    session->session.run(convert(frames, frame_size, count, outputs->images), outputs->outputs);
  });
}

int linglos_session_submit_frames(linglos_session* session, const linglos_frame* frames, size_t frame_size,
                                  size_t count, linglos_callback callback, void* user) {
  return guarded([&] {
    require(session != nullptr, "session");
    require(callback != nullptr, "callback");
    std::vector<linglos::ImageView> views;
    convert(frames, frame_size, count, views);
    submit(*session, std::move(views), callback, user);
  });
}

size_t linglos_outputs_count(const linglos_outputs* outputs) {
  return outputs == nullptr ? 0 : outputs->outputs.size();
}

const char* linglos_output_name(const linglos_outputs* outputs, size_t index) {
  return index < linglos_outputs_count(outputs) ? outputs->outputs[index].name.c_str() : nullptr;
}

const float* linglos_output_values(const linglos_outputs* outputs, size_t index, size_t* count) {
  const bool there = index < linglos_outputs_count(outputs);
  if (count != nullptr) *count = there ? outputs->outputs[index].values.size() : 0;
  return there ? outputs->outputs[index].values.data() : nullptr;
}

const int64_t* linglos_output_shape(const linglos_outputs* outputs, size_t index, size_t* rank) {
  const bool there = index < linglos_outputs_count(outputs);
  if (rank != nullptr) *rank = there ? outputs->outputs[index].shape.size() : 0;
  return there ? outputs->outputs[index].shape.data() : nullptr;
}

int linglos_output_top_k(const linglos_outputs* outputs, size_t index, size_t image, int* classes,
                         double* probabilities, size_t* count) {
  return guarded([&] {
    require(outputs != nullptr, "outputs");
    require(count != nullptr, "count");
    require(classes != nullptr || *count == 0, "classes");
    if (index >= outputs->outputs.size())
      throw linglos::UsageError("There is no output " + std::to_string(index) + ".");
    const auto found = linglos::top_k(outputs->outputs[index], image, *count);
    *count = found.size();
    for (size_t i = 0; i < found.size(); ++i) {
      classes[i] = found[i].index;
      if (probabilities != nullptr) probabilities[i] = found[i].probability;
    }
  });
}

int linglos_session_self_test(linglos_session* session, int* passed) {
  std::string summary;
  const int code = guarded([&] {
    require(session != nullptr, "session");
    require(passed != nullptr, "passed");
    const linglos::SelfTest report = session->session.self_test();
    *passed = report.passed ? 1 : 0;
    summary = report.summary();
  });
  if (code == LINGLOS_OK) last_error = std::move(summary);
  return code;
}

}  // extern "C"
