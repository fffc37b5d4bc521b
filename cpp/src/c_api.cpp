#include "linglos.h"

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

/// Turns every exception into a code and a message.
template <typename Call>
int guarded(Call&& call) noexcept {
  try {
    last_error.clear();
    call();
    return LINGLOS_OK;
  } catch (const linglos::Error& error) {
    last_error = error.what();
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    last_error = "No memory left.";
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return LINGLOS_ERROR_INTERNAL;
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

linglos::SessionOptions convert(const linglos_options* given) {
  linglos::SessionOptions options;
  if (given == nullptr) return options;
  if (given->size != sizeof(linglos_options))
    throw linglos::UsageError("Fill linglos_options with linglos_options_init() of this version.");
  options.backend = choice<linglos::BackendKind>("backend", given->backend, 2);
  options.device = choice<linglos::DeviceKind>("device", given->device, 2);
  options.device_index = given->device_index;
  options.precision = given->precision == nullptr ? "" : given->precision;
  options.threads = given->threads;
  options.contexts = given->contexts;
  options.max_batch = given->max_batch;
  return options;
}

}  // namespace

extern "C" {

const char* linglos_version(void) { return LINGLOS_VERSION; }

const char* linglos_last_error(void) { return last_error.c_str(); }

void linglos_options_init(linglos_options* options) {
  if (options == nullptr) return;
  const linglos::SessionOptions defaults;
  *options = {sizeof(linglos_options), 0,       0, defaults.device_index, nullptr, defaults.threads,
              defaults.contexts,       defaults.max_batch};
}

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
    require(images != nullptr || count == 0, "images");
    require(outputs != nullptr, "outputs");
    outputs->images.clear();
    for (size_t i = 0; i < count; ++i)
      outputs->images.push_back({images[i].data, images[i].width, images[i].height, images[i].stride,
                                 choice<linglos::PixelFormat>("format", images[i].format, 1)});
    session->session.run(outputs->images, outputs->outputs);
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
