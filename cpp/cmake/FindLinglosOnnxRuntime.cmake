# Finds ONNX Runtime's C header, which a build needs, and a library, which is loaded when a session needs it: any
# release since 1.20 will do, and it need not be here while building. One that is found is put where programs of this
# build look for it, and installed beside the library.
#
# ONNXRUNTIME_ROOT         a prefix with both, such as an unpacked release archive
# ONNXRUNTIME_INCLUDE_DIR  the folder of onnxruntime_c_api.h, such as the one cpp/scripts/fetch_onnxruntime_headers.sh made
# ONNXRUNTIME_LIBRARY      libonnxruntime.so[.VERSION]
# LINGLOS_PYTHON           an interpreter whose package onnxruntime has the library, if no other is found
#
# Defines the target linglos::onnxruntime_headers and, if there is a library, the variable LINGLOS_ONNXRUNTIME_FILE.

find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${ONNXRUNTIME_ROOT} ENV ONNXRUNTIME_ROOT ENV ONNXRUNTIME_INCLUDE_DIR
  PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session
  DOC "Folder of onnxruntime_c_api.h")
find_library(ONNXRUNTIME_LIBRARY NAMES onnxruntime libonnxruntime.so.1
  HINTS ${ONNXRUNTIME_ROOT} ENV ONNXRUNTIME_ROOT PATH_SUFFIXES lib lib64
  DOC "libonnxruntime")

if(NOT ONNXRUNTIME_LIBRARY AND NOT CMAKE_CROSSCOMPILING)  # this machine's Python has this machine's library
  if(NOT LINGLOS_PYTHON)
    find_program(LINGLOS_PYTHON NAMES python3 python DOC "Python whose package onnxruntime has the library")
  endif()
  if(LINGLOS_PYTHON)
    execute_process(
      COMMAND "${LINGLOS_PYTHON}" -c
        "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _linglos_package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    file(GLOB _linglos_found "${_linglos_package}/capi/libonnxruntime.so.*")
    if(_linglos_package AND _linglos_found)
      list(GET _linglos_found 0 _linglos_first)
      set(ONNXRUNTIME_LIBRARY "${_linglos_first}" CACHE FILEPATH "libonnxruntime" FORCE)
    endif()
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LinglosOnnxRuntime
  REQUIRED_VARS ONNXRUNTIME_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "Set ONNXRUNTIME_ROOT to an unpacked release of ONNX Runtime, or run cpp/scripts/fetch_onnxruntime_headers.sh DIR and set ONNXRUNTIME_INCLUDE_DIR=DIR.")

if(LinglosOnnxRuntime_FOUND AND NOT TARGET linglos::onnxruntime_headers)
  add_library(linglos::onnxruntime_headers INTERFACE IMPORTED GLOBAL)
  set_target_properties(linglos::onnxruntime_headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
if(ONNXRUNTIME_LIBRARY)
  get_filename_component(LINGLOS_ONNXRUNTIME_FILE "${ONNXRUNTIME_LIBRARY}" REALPATH)
  # The wheel's file is called libonnxruntime.so.1.32.0 while programs ask for libonnxruntime.so.1.
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
  file(CREATE_LINK "${LINGLOS_ONNXRUNTIME_FILE}" "${CMAKE_BINARY_DIR}/lib/libonnxruntime.so.1" SYMBOLIC)
else()
  set(LINGLOS_ONNXRUNTIME_FILE "")
endif()
mark_as_advanced(ONNXRUNTIME_INCLUDE_DIR ONNXRUNTIME_LIBRARY)
