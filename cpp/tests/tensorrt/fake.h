/* What a test may ask of the fake, and the plan that the fake takes. */
#ifndef LINGLOS_FAKE_H
#define LINGLOS_FAKE_H

#include <stdint.h>

/* A plan: the magic of its product, then the model. Its output `logits` has `values` numbers an image: the sum of the
 * image's input times 1, 2, 3, ... */
typedef struct fake_plan {
  char magic[4];
  int32_t batch; /* -1 for a dynamic one */
  int32_t max_batch;
  int32_t height, width;
  int32_t pixels; /* 1: uint8 N x H x W x 3; 0: float32 N x 3 x H x W */
  int32_t values;
} fake_plan;

/* What is alive. All are 0 when nothing is open. */
typedef struct fake_counts {
  long runtimes, engines, contexts, streams, memories, devices, current;
  long misuses; /* calls that the real thing would not take, such as one without a current device */
  long runs;
} fake_counts;

/* The call of the vendor's that comes after `left` others fails; -1 for none. Says how many were left before. */
typedef long fake_fail_after_fn(long left);
typedef fake_counts fake_counts_fn(void);

#endif
