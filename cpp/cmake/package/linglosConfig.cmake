# The package inside the Python wheel, which `linglos-deploy cmake-dir` prints: find_package(linglos CONFIG) builds
# linglos::runtime from its sources as a part of your project. Set BUILD_SHARED_LIBS, LINGLOS_TENSORRT and the other
# options of ../../CMakeLists.txt before you call it.
if(NOT TARGET linglos::runtime)
  get_filename_component(_linglos_source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
  find_package(Threads REQUIRED)  # here, so that your scope knows what a static library is linked with
  find_package(OpenSSL REQUIRED COMPONENTS Crypto)
  add_subdirectory("${_linglos_source}" "${CMAKE_BINARY_DIR}/_linglos")
  unset(_linglos_source)
endif()
set(linglos_FOUND TRUE)
