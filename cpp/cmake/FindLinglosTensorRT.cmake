# Finds TensorRT 10.x or 11.x and the CUDA runtime.
#
# TENSORRT_ROOT         a prefix with both headers and library
# TENSORRT_INCLUDE_DIR  the folder of NvInferRuntime.h
# TENSORRT_LIBRARY      libnvinfer.so, or libnvinfer_lean.so, which runs version-compatible engines only
#
# Defines the target linglos::tensorrt.

find_package(CUDAToolkit QUIET)
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TENSORRT_ROOT} ENV TENSORRT_ROOT ENV TENSORRT_INCLUDE_DIR PATH_SUFFIXES include
  DOC "Folder of NvInferRuntime.h")
find_library(TENSORRT_LIBRARY NAMES nvinfer libnvinfer.so.11 libnvinfer.so.10
  HINTS ${TENSORRT_ROOT} ENV TENSORRT_ROOT PATH_SUFFIXES lib lib64 targets/x86_64-linux-gnu/lib targets/aarch64-linux-gnu/lib
  DOC "libnvinfer or libnvinfer_lean")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LinglosTensorRT
  REQUIRED_VARS TENSORRT_LIBRARY TENSORRT_INCLUDE_DIR CUDAToolkit_FOUND
  REASON_FAILURE_MESSAGE "Set TENSORRT_ROOT to an unpacked TensorRT (or TENSORRT_INCLUDE_DIR and TENSORRT_LIBRARY), and CUDAToolkit_ROOT to CUDA.")

if(LinglosTensorRT_FOUND AND NOT TARGET linglos::tensorrt)
  add_library(linglos::tensorrt SHARED IMPORTED GLOBAL)
  set_target_properties(linglos::tensorrt PROPERTIES
    IMPORTED_LOCATION "${TENSORRT_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${TENSORRT_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES CUDA::cudart)
endif()
mark_as_advanced(TENSORRT_INCLUDE_DIR TENSORRT_LIBRARY)
