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
  const int wrong = misuse();
  if (wrong != 0) return wrong;
  return argc == 2 ? run(argv[1]) : 2;
}
