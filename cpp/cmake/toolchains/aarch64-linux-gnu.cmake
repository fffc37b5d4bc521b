# Cross-compiles for 64-bit ARM with Debian's g++-aarch64-linux-gnu:
#
#   cpp/scripts/make_aarch64_root.sh ROOT
#   cmake -S cpp -B build -DCMAKE_TOOLCHAIN_FILE=cpp/cmake/toolchains/aarch64-linux-gnu.cmake -DLINGLOS_AARCH64_ROOT=ROOT …
#
# ROOT holds what a program of that machine is compiled and linked with; with qemu-user installed, programs run in it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(LINGLOS_AARCH64_ROOT "" CACHE PATH "Folder that cpp/scripts/make_aarch64_root.sh made")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES LINGLOS_AARCH64_ROOT)
if(NOT EXISTS "${LINGLOS_AARCH64_ROOT}/lib/ld-linux-aarch64.so.1")
  message(FATAL_ERROR "Set LINGLOS_AARCH64_ROOT to a folder that cpp/scripts/make_aarch64_root.sh made.")
endif()

set(CMAKE_FIND_ROOT_PATH "${LINGLOS_AARCH64_ROOT}")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(LINGLOS_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
if(LINGLOS_QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${LINGLOS_QEMU_AARCH64};-L;${LINGLOS_AARCH64_ROOT}")
endif()
