# Finds ONNX Runtime: its C header and its library, which may come from different places.
#
# ONNXRUNTIME_ROOT         a prefix with both, such as an unpacked release archive
# ONNXRUNTIME_INCLUDE_DIR  the folder of onnxruntime_c_api.h, such as the one cpp/scripts/fetch_onnxruntime_headers.sh made
# ONNXRUNTIME_LIBRARY      libonnxruntime.so[.VERSION]
# LINGLOS_PYTHON           an interpreter whose package onnxruntime has the library, if no other is found
#
# Defines the target linglos::onnxruntime.

find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${ONNXRUNTIME_ROOT} ENV ONNXRUNTIME_ROOT ENV ONNXRUNTIME_INCLUDE_DIR
  PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session
  DOC "Folder of onnxruntime_c_api.h")
find_library(ONNXRUNTIME_LIBRARY NAMES onnxruntime libonnxruntime.so.1
  HINTS ${ONNXRUNTIME_ROOT} ENV ONNXRUNTIME_ROOT PATH_SUFFIXES lib lib64
  DOC "libonnxruntime")

if(NOT ONNXRUNTIME_LIBRARY)
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
  REQUIRED_VARS ONNXRUNTIME_LIBRARY ONNXRUNTIME_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "Set ONNXRUNTIME_ROOT to an unpacked release of ONNX Runtime. Or run cpp/scripts/fetch_onnxruntime_headers.sh DIR, set ONNXRUNTIME_INCLUDE_DIR=DIR and 'pip install onnxruntime' for the library.")

if(LinglosOnnxRuntime_FOUND AND NOT TARGET linglos::onnxruntime)
  # The wheel's file is called libonnxruntime.so.1.32.0 while programs ask the loader for libonnxruntime.so.1.
  get_filename_component(_linglos_real "${ONNXRUNTIME_LIBRARY}" REALPATH)
  get_filename_component(_linglos_folder "${ONNXRUNTIME_LIBRARY}" DIRECTORY)
  set(LINGLOS_ONNXRUNTIME_FILE "${_linglos_real}")
  set(_linglos_location "${ONNXRUNTIME_LIBRARY}")
  if(NOT EXISTS "${_linglos_folder}/libonnxruntime.so.1")
    set(_linglos_location "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime/libonnxruntime.so.1")
    file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime")
    file(CREATE_LINK "${_linglos_real}" "${_linglos_location}" SYMBOLIC)
  endif()
  add_library(linglos::onnxruntime SHARED IMPORTED GLOBAL)
  set_target_properties(linglos::onnxruntime PROPERTIES
    IMPORTED_LOCATION "${_linglos_location}" IMPORTED_SONAME libonnxruntime.so.1
    INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
mark_as_advanced(ONNXRUNTIME_INCLUDE_DIR ONNXRUNTIME_LIBRARY)
