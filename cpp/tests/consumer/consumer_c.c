/* The same as 'consumer run', through the C API; and what the C API answers to misuse. */
#include <linglos.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int misuse(void) {
  linglos_session* session = (linglos_session*)&session;
  linglos_options options;
  int passed = -1;
  size_t count = 1;
  if (linglos_session_open(NULL, NULL, &session) != LINGLOS_ERROR_USAGE) return 20;
  if (strstr(linglos_last_error(), "bundle must not be NULL") == NULL) return 21;
  if (linglos_session_open("/nowhere", NULL, &session) != LINGLOS_ERROR_BUNDLE || session != NULL) return 22;
  linglos_options_init(&options);
  options.backend = 17;
  if (linglos_session_open("/nowhere", &options, &session) != LINGLOS_ERROR_USAGE) return 23;
  memset(&options, 0, sizeof options);
  if (linglos_session_open("/nowhere", &options, &session) != LINGLOS_ERROR_USAGE) return 24;
  if (linglos_session_run(NULL, NULL, 0, NULL) != LINGLOS_ERROR_USAGE) return 25;
  if (linglos_session_self_test(NULL, &passed) != LINGLOS_ERROR_USAGE) return 26;
  if (linglos_output_values(NULL, 0, &count) != NULL || count != 0) return 27;
  if (linglos_session_label(NULL, 0) != NULL || linglos_outputs_count(NULL) != 0) return 28;
  linglos_session_close(NULL);
  linglos_outputs_free(NULL);
  return 0;
}

/* A structure with a guard behind it: whatever library runs, it must not be written. */
static int layout(void) {
  struct {
    linglos_options options;
    unsigned char guard[64];
  } held;
  size_t i;
  memset(&held, 0xA5, sizeof held);
  linglos_options_init(&held.options);
  for (i = 0; i < sizeof held.guard; ++i)
    if (held.guard[i] != 0xA5) return 40;
  return held.options.max_batch >= 1 && held.options.contexts >= 1 ? 0 : 41;
}

#if defined(LINGLOS_C_API) && LINGLOS_C_API >= 2
/* What came after 0.1.0. */
static void answered(void* user, int code, const char* message, const linglos_outputs* outputs) {
  int* result = user;
  int classes[3];
  double probabilities[3];
  size_t count = 3;
  if (code != LINGLOS_OK || message[0] != '\0' || linglos_outputs_count(outputs) != 1) *result = 50;
  else if (linglos_output_top_k(outputs, 0, 0, classes, probabilities, &count) != LINGLOS_OK) *result = 51;
  else if (count != 3 || probabilities[0] < probabilities[1] || probabilities[2] < 0) *result = 52;
  else *result = 0;
}

static void refused(void* user, int code, const char* message, const linglos_outputs* outputs) {
  int* result = user;
  *result = code == LINGLOS_ERROR_USAGE && strstr(message, "pixels") != NULL && linglos_outputs_count(outputs) == 0 ? 0 : 53;
}

static int newer(const char* bundle) {
  uint8_t pixels[12 * 10 * 3] = {0};
  linglos_image image = {pixels, 12, 10, 0, LINGLOS_BGR};
  linglos_image nothing = {NULL, 12, 10, 0, LINGLOS_RGB};
  int first = 54, second = 55, code;
  linglos_session* session = NULL;
  struct {
    linglos_options options;
    int later;
  } future;
  linglos_options_init_sized(&future.options, sizeof future);
  if (future.options.size != sizeof future || future.later != 0) return 56;
  future.options.threads = 1;
  future.later = 1;
  if (linglos_session_open(bundle, &future.options, &session) != LINGLOS_ERROR_USAGE) return 57;
  future.later = 0;
  if (linglos_session_open(bundle, &future.options, &session) != LINGLOS_OK) return 58;
  if (linglos_session_submit(session, &image, 1, NULL, NULL) != LINGLOS_ERROR_USAGE) return 59;
  code = linglos_session_submit(session, &image, 1, answered, &first);
  if (code == LINGLOS_OK) code = linglos_session_submit(session, &nothing, 1, refused, &second);
  if (strstr(linglos_session_manifest(session), "linglos.bundle/") == NULL) code = 60;
  if (strcmp(linglos_session_device(session), "cpu") != 0 || strcmp(linglos_session_precision(session), "fp32") != 0) code = 61;
  if (strstr(linglos_session_file(session), ".onnx") == NULL) code = 62;
  linglos_session_close(session); /* finishes what was submitted */
  if (linglos_set_library(LINGLOS_BACKEND_AUTOMATIC, "x") != LINGLOS_ERROR_USAGE) return 63;
  return code != LINGLOS_OK ? code : first != 0 ? first : second;
}
#endif

#if defined(LINGLOS_C_API) && LINGLOS_C_API >= 3
/* Other batches may round otherwise. */
static int near(float found, float expected) { return found - expected < 1e-4F && expected - found < 1e-4F; }

/* A region of a frame answers as the same pixels alone do; fields of later versions are not ignored. */
static int frames(const char* bundle) {
  uint8_t pixels[16 * 20 * 3];
  struct {
    linglos_frame frame;
    int later;
  } future[2];
  linglos_image alone = {pixels + 4 * 48 + 9, 12, 10, 48, LINGLOS_RGB};
  linglos_session* session = NULL;
  linglos_outputs* outputs = NULL;
  linglos_options options;
  const float* values;
  float expected = 0;
  size_t i, count = 0;
  int answer = 54, code;
  for (i = 0; i < sizeof pixels; ++i) pixels[i] = (uint8_t)(i * 37 + i / 11);
  memset(future, 0, sizeof future);
  for (i = 0; i < 2; ++i) {
    linglos_frame* frame = &future[i].frame;
    frame->data = pixels, frame->width = 16, frame->height = 20, frame->format = LINGLOS_RGB;
    frame->region_x = 3, frame->region_y = 4, frame->region_width = 12, frame->region_height = 10;
  }
  linglos_options_init(&options);
  options.threads = 1;
  code = linglos_session_open(bundle, &options, &session);
  if (code == LINGLOS_OK) code = linglos_outputs_create(&outputs);
  if (code == LINGLOS_OK) code = linglos_session_run(session, &alone, 1, outputs);
  values = linglos_output_values(outputs, 0, &count);
  if (code == LINGLOS_OK && count > 0) expected = values[0];
  if (code == LINGLOS_OK) code = linglos_session_run_frames(session, &future[0].frame, sizeof future[0], 2, outputs);
  values = linglos_output_values(outputs, 0, &count);
  if (code == LINGLOS_OK && (count != 20 || !near(values[0], expected) || !near(values[10], expected))) code = 70;
  if (code == LINGLOS_OK)
    code = linglos_session_submit_frames(session, &future[0].frame, sizeof future[0], 1, answered, &answer);
  future[1].later = 1;
  if (code == LINGLOS_OK &&
      linglos_session_run_frames(session, &future[0].frame, sizeof future[0], 2, outputs) != LINGLOS_ERROR_USAGE)
    code = 71;
  future[1].later = 0;
  future[1].frame.region_width = 14;
  if (code == LINGLOS_OK &&
      linglos_session_run_frames(session, &future[0].frame, sizeof future[0], 2, outputs) != LINGLOS_ERROR_USAGE)
    code = 72;
  if (code == LINGLOS_OK && linglos_session_run_frames(session, &future[0].frame, 1, 1, outputs) != LINGLOS_ERROR_USAGE)
    code = 73;
  linglos_session_close(session);
  linglos_outputs_free(outputs);
  return code != LINGLOS_OK ? code : answer;
}
#endif

static int run(const char* bundle) {
  linglos_options options;
  linglos_session* session = NULL;
  linglos_outputs* outputs = NULL;
  int32_t size[2];
  int code, passed = 0;

  linglos_options_init(&options);
  options.threads = 1;
  code = linglos_session_open(bundle, &options, &session);
  if (code == LINGLOS_OK) code = linglos_outputs_create(&outputs);
  if (code == LINGLOS_OK) code = linglos_session_self_test(session, &passed);
  if (code == LINGLOS_OK && !passed) code = LINGLOS_ERROR_INTERNAL;
  while (code == LINGLOS_OK && fread(size, sizeof size, 1, stdin) == 1) {
    const size_t bytes = (size_t)size[0] * (size_t)size[1] * 3;
    uint8_t* pixels = malloc(bytes);
    linglos_image image = {pixels, size[1], size[0], 0, LINGLOS_RGB};
    size_t i, count;
    if (pixels == NULL || fread(pixels, 1, bytes, stdin) != bytes) code = LINGLOS_ERROR_IO;
    if (code == LINGLOS_OK) code = linglos_session_run(session, &image, 1, outputs);
    for (i = 0; code == LINGLOS_OK && i < linglos_outputs_count(outputs); ++i) {
      const float* values = linglos_output_values(outputs, i, &count);
      fwrite(values, sizeof(float), count, stdout);
    }
    free(pixels);
  }
  if (code != LINGLOS_OK) fprintf(stderr, "%s\n", linglos_last_error());
  linglos_outputs_free(outputs);
  linglos_session_close(session);
  return code == LINGLOS_OK ? 0 : 10 + code;
}

int main(int argc, char** argv) {
  int wrong = misuse();
  if (wrong == 0) wrong = layout();
#if defined(LINGLOS_C_API) && LINGLOS_C_API >= 2
  if (wrong == 0 && argc == 2 && strstr(argv[1], "digits") != NULL) wrong = newer(argv[1]);
#endif
#if defined(LINGLOS_C_API) && LINGLOS_C_API >= 3
  if (wrong == 0 && argc == 2 && strstr(argv[1], "digits") != NULL) wrong = frames(argv[1]);
#endif
  if (wrong != 0) return wrong;
  return argc == 2 ? run(argv[1]) : 2;
}
