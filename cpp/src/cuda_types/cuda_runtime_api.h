/* What TensorRT's headers want of CUDA's: the names of two handles. The driver is loaded at run time (see ../cuda.hpp),
 * so that no CUDA toolkit is needed to build or to run. */
#ifndef LINGLOS_CUDA_TYPES_H
#define LINGLOS_CUDA_TYPES_H

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;

#endif
