# Finds the headers of TensorRT, which a build needs; the library is loaded when a session needs it, and need not be
# here while building. No CUDA toolkit is needed.
#
# TENSORRT_INCLUDE_DIR  the folder of NvInferRuntime.h of any release 10.x or 11.x, or a list of one of each: one build
#                       then runs with both. Headers of 11 serve TensorRT-RTX too. They are public: folder include/
#                       of github.com/NVIDIA/TensorRT
# TENSORRT_ROOT         an unpacked TensorRT, if TENSORRT_INCLUDE_DIR is not set
#
# Sets LINGLOS_TENSORRT_10_HEADERS and LINGLOS_TENSORRT_11_HEADERS, each a folder or empty.

find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TENSORRT_ROOT} ENV TENSORRT_ROOT PATH_SUFFIXES include
  DOC "Folder of NvInferRuntime.h, or a list of folders")

set(LINGLOS_TENSORRT_10_HEADERS "")
set(LINGLOS_TENSORRT_11_HEADERS "")
set(_linglos_usable "")
foreach(_linglos_folder IN LISTS TENSORRT_INCLUDE_DIR)
  if(NOT EXISTS "${_linglos_folder}/NvInferVersion.h")
    continue()
  endif()
  file(STRINGS "${_linglos_folder}/NvInferVersion.h" _linglos_lines REGEX "define +(TRT|NV_TENSORRT)_MAJOR(_ENTERPRISE|_RTX)? +[0-9]")
  if(_linglos_lines MATCHES "_RTX")
    message(FATAL_ERROR "${_linglos_folder} has the headers of TensorRT-RTX; this library runs it through those of TensorRT 11. Set TENSORRT_INCLUDE_DIR to include/ of github.com/NVIDIA/TensorRT, release 11.")
  endif()
  if(NOT _linglos_lines MATCHES "MAJOR(_ENTERPRISE)? +(10|11)( |;|$)")
    message(FATAL_ERROR "${_linglos_folder} has the headers of another TensorRT than 10 or 11: ${_linglos_lines}")
  endif()
  set(LINGLOS_TENSORRT_${CMAKE_MATCH_2}_HEADERS "${_linglos_folder}")
  set(_linglos_usable TRUE)
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LinglosTensorRT
  REQUIRED_VARS TENSORRT_INCLUDE_DIR _linglos_usable
  REASON_FAILURE_MESSAGE "Set TENSORRT_INCLUDE_DIR to include/ of github.com/NVIDIA/TensorRT at a release 10.x, 11.x, or a list of both, or TENSORRT_ROOT to an unpacked TensorRT.")
mark_as_advanced(TENSORRT_INCLUDE_DIR)
