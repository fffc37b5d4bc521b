/* The C API of linglos: one session, images in, floats out. See linglos/linglos.hpp for the C++ API.
 *
 * Every function that returns int returns 0 or one of the error codes below; linglos_last_error() then says what was
 * found, what was expected and what to do next. Nothing here throws. A session may be used by several threads at once,
 * an outputs object by one at a time.
 *
 * This interface only grows. A program that was compiled with an older linglos.h runs with a newer library: structures
 * say their size, and none is written beyond it. A program that was compiled with a newer one runs with an older
 * library as long as it leaves new fields at their defaults and calls no new function. */
#ifndef LINGLOS_H
#define LINGLOS_H

#include <stddef.h>
#include <stdint.h>

#include "linglos/export.h"

/* Grows with every addition. 1: 0.1.0. 2: options by size, submit, top-k, manifest, OpenVINO.
 * 3: TensorRT-RTX, frames. */
#define LINGLOS_C_API 3

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
  LINGLOS_ERROR_INTERNAL = 6,
  LINGLOS_ERROR_BUSY = 7
};

enum {
  LINGLOS_BACKEND_AUTOMATIC = 0,
  LINGLOS_BACKEND_ONNXRUNTIME = 1,
  LINGLOS_BACKEND_TENSORRT = 2,
  LINGLOS_BACKEND_OPENVINO = 3,
  LINGLOS_BACKEND_TENSORRT_RTX = 4
};
enum { LINGLOS_DEVICE_AUTOMATIC = 0, LINGLOS_DEVICE_CPU = 1, LINGLOS_DEVICE_CUDA = 2 };
enum {
  LINGLOS_RGB = 0,
  LINGLOS_BGR = 1,
  LINGLOS_GREY = 2,
  LINGLOS_RGBA = 3,
  LINGLOS_BGRA = 4,
  LINGLOS_NV12 = 5,
  LINGLOS_YUYV = 6
};
enum { LINGLOS_ROTATION_NONE = 0, LINGLOS_ROTATION_90 = 1, LINGLOS_ROTATION_180 = 2, LINGLOS_ROTATION_270 = 3 };
enum { LINGLOS_BT601 = 0, LINGLOS_BT709 = 1 };
enum { LINGLOS_RANGE_LIMITED = 0, LINGLOS_RANGE_FULL = 1 };
enum { LINGLOS_OVERFLOW_BLOCK = 0, LINGLOS_OVERFLOW_REFUSE = 1, LINGLOS_OVERFLOW_DROP_OLDEST = 2 };

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
  int reserved;             /* padding in 0.1.0; not read */
  int spin;                 /* idle threads wait busily */
  int queue_overflow;       /* what linglos_session_submit() does when the queue is full */
  size_t queue_limit;       /* submissions that may wait */
  int64_t queue_timeout_ms; /* longest wait for room; 0 waits for ever */
} linglos_options;

/* An image of any LINGLOS_... format above; `stride` in bytes, 0 means nothing between rows. Never grows: it is used in
 * arrays. linglos_frame says more. */
typedef struct linglos_image {
  const uint8_t* data;
  int width;
  int height;
  ptrdiff_t stride;
  int format;
} linglos_image;

/* A frame as it comes, and what of it is the image: the region, turned clockwise. Fill with zeros, then set what matters;
 * it may grow, so the functions that take an array of frames are told its size. */
typedef struct linglos_frame {
  const uint8_t* data;
  int width; /* of the frame, in pixels */
  int height;
  ptrdiff_t stride; /* bytes from one row to the next; 0: nothing between them */
  int format;
  int rotation;
  const uint8_t* chroma;   /* NV12: rows of U and V; NULL if they follow the rows of Y */
  ptrdiff_t chroma_stride; /* 0: that of Y, rounded up to even */
  int region_x;            /* the part that is the image; four zeros: all of it */
  int region_y;
  int region_width;
  int region_height;
  int matrix; /* of YUV formats */
  int range;
} linglos_frame;

LINGLOS_API const char* linglos_version(void);

/* The message of the last error on this thread; valid until the next call on this thread. */
LINGLOS_API const char* linglos_last_error(void);

/* Names the library that a backend is loaded from; NULL or "" goes back to the search. Before the first session. */
LINGLOS_API int linglos_set_library(int backend, const char* path);

/* Fills the first `size` bytes of an options structure. */
LINGLOS_API void linglos_options_init_sized(linglos_options* options, size_t size);
#ifndef LINGLOS_BUILDING
/* Programs compiled before 0.2 call a function of this name, which fills in the structure of 0.1.0. */
#define linglos_options_init(options) linglos_options_init_sized((options), sizeof *(options))
#endif

/* Opens and checks a bundle, then picks the best engine. `options` may be NULL. */
LINGLOS_API int linglos_session_open(const char* bundle, const linglos_options* options, linglos_session** session);
/* Finishes what was submitted. May be called in a callback of the session. */
LINGLOS_API void linglos_session_close(linglos_session* session);

/* Which backend runs which file where, in which precision, and why; valid as long as the session. */
LINGLOS_API const char* linglos_session_backend(const linglos_session* session);
LINGLOS_API const char* linglos_session_device(const linglos_session* session);
LINGLOS_API const char* linglos_session_file(const linglos_session* session);
LINGLOS_API const char* linglos_session_precision(const linglos_session* session);
LINGLOS_API const char* linglos_session_reason(const linglos_session* session);

/* The bundle's manifest.json, as it was checked; valid as long as the session. */
LINGLOS_API const char* linglos_session_manifest(const linglos_session* session);

/* NULL if the bundle names no label of this index. */
LINGLOS_API const char* linglos_session_label(const linglos_session* session, size_t index);

/* Reusable memory for outputs. */
LINGLOS_API int linglos_outputs_create(linglos_outputs** outputs);
LINGLOS_API void linglos_outputs_free(linglos_outputs* outputs);

LINGLOS_API int linglos_session_run(linglos_session* session, const linglos_image* images, size_t count,
                                    linglos_outputs* outputs);

/* Told once of a submission: `code` is 0 and `outputs` holds the answer until the call returns, or `code` says what went
 * wrong and `message` how. */
typedef void (*linglos_callback)(void* user, int code, const char* message, const linglos_outputs* outputs);

/* Runs on another thread. The pixels must stay alive until the callback was called; where this returns an error, it
 * never will be. */
LINGLOS_API int linglos_session_submit(linglos_session* session, const linglos_image* images, size_t count,
                                       linglos_callback callback, void* user);

/* The same on frames; `frame_size` is sizeof(linglos_frame). */
LINGLOS_API int linglos_session_run_frames(linglos_session* session, const linglos_frame* frames, size_t frame_size,
                                           size_t count, linglos_outputs* outputs);
LINGLOS_API int linglos_session_submit_frames(linglos_session* session, const linglos_frame* frames, size_t frame_size,
                                              size_t count, linglos_callback callback, void* user);

LINGLOS_API size_t linglos_outputs_count(const linglos_outputs* outputs);
/* NULL, or 0, for an index out of range. */
LINGLOS_API const char* linglos_output_name(const linglos_outputs* outputs, size_t index);
LINGLOS_API const float* linglos_output_values(const linglos_outputs* outputs, size_t index, size_t* count);
LINGLOS_API const int64_t* linglos_output_shape(const linglos_outputs* outputs, size_t index, size_t* rank);

/* The `*count` largest logits of one image of an output, largest first, with their softmax; sets `*count` to how many
 * there are. `probabilities` may be NULL. */
LINGLOS_API int linglos_output_top_k(const linglos_outputs* outputs, size_t index, size_t image, int* classes,
                                     double* probabilities, size_t* count);

/* Replays the golden images: 0 if the test could be run; *passed says the verdict, linglos_last_error() the summary. */
LINGLOS_API int linglos_session_self_test(linglos_session* session, int* passed);

#ifdef __cplusplus
}
#endif

#endif
