/* The C API of linglos: one session, images in, floats out. See linglos/linglos.hpp for the C++ API.
 *
 * Every function that returns int returns 0 or one of the error codes below; linglos_last_error() then says what was
 * found, what was expected and what to do next. Nothing here throws. A session may be used by several threads at once,
 * an outputs object by one at a time. */
#ifndef LINGLOS_H
#define LINGLOS_H

#include <stddef.h>
#include <stdint.h>

#include "linglos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  LINGLOS_OK = 0,
  LINGLOS_ERROR_USAGE = 1,
  LINGLOS_ERROR_BUNDLE = 2,
  LINGLOS_ERROR_DEVICE = 3,
  LINGLOS_ERROR_BACKEND = 4,
  LINGLOS_ERROR_IO = 5,
  LINGLOS_ERROR_INTERNAL = 6
};

enum { LINGLOS_BACKEND_AUTOMATIC = 0, LINGLOS_BACKEND_ONNXRUNTIME = 1, LINGLOS_BACKEND_TENSORRT = 2 };
enum { LINGLOS_DEVICE_AUTOMATIC = 0, LINGLOS_DEVICE_CPU = 1, LINGLOS_DEVICE_CUDA = 2 };
enum { LINGLOS_RGB = 0, LINGLOS_BGR = 1 };

typedef struct linglos_session linglos_session;
typedef struct linglos_outputs linglos_outputs;

/* Fill with linglos_options_init(), then change what matters; `size` lets the struct grow in later versions. */
typedef struct linglos_options {
  size_t size;
  int backend;
  int device;
  int device_index;
  const char* precision; /* NULL or "": the best engine, else float32 */
  int threads;
  int contexts;
  int max_batch;
} linglos_options;

/* 8-bit, three interleaved channels; `stride` in bytes, 0 means 3 * width. */
typedef struct linglos_image {
  const uint8_t* data;
  int width;
  int height;
  ptrdiff_t stride;
  int format;
} linglos_image;

LINGLOS_API const char* linglos_version(void);

/* The message of the last error on this thread; valid until the next call on this thread. */
LINGLOS_API const char* linglos_last_error(void);

LINGLOS_API void linglos_options_init(linglos_options* options);

/* Opens and checks a bundle, then picks the best engine. `options` may be NULL. */
LINGLOS_API int linglos_session_open(const char* bundle, const linglos_options* options, linglos_session** session);
LINGLOS_API void linglos_session_close(linglos_session* session);

/* Which backend runs which file, and why; valid as long as the session. */
LINGLOS_API const char* linglos_session_backend(const linglos_session* session);
LINGLOS_API const char* linglos_session_reason(const linglos_session* session);

/* NULL if the bundle names no label of this index. */
LINGLOS_API const char* linglos_session_label(const linglos_session* session, size_t index);

/* Reusable memory for outputs. */
LINGLOS_API int linglos_outputs_create(linglos_outputs** outputs);
LINGLOS_API void linglos_outputs_free(linglos_outputs* outputs);

LINGLOS_API int linglos_session_run(linglos_session* session, const linglos_image* images, size_t count,
                                    linglos_outputs* outputs);

LINGLOS_API size_t linglos_outputs_count(const linglos_outputs* outputs);
/* NULL, or 0, for an index out of range. */
LINGLOS_API const char* linglos_output_name(const linglos_outputs* outputs, size_t index);
LINGLOS_API const float* linglos_output_values(const linglos_outputs* outputs, size_t index, size_t* count);
LINGLOS_API const int64_t* linglos_output_shape(const linglos_outputs* outputs, size_t index, size_t* rank);

/* Replays the golden images: 0 if the test could be run; *passed says the verdict, linglos_last_error() the summary. */
LINGLOS_API int linglos_session_self_test(linglos_session* session, int* passed);

#ifdef __cplusplus
}
#endif

#endif
