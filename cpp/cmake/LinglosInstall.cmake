# Install rules: the library, its headers, the tools and a package for find_package(linglos CONFIG).
include(CMakePackageConfigHelpers)

option(LINGLOS_INSTALL_ONNXRUNTIME "Install a copy of libonnxruntime beside the library, if one was found" ON)
set(LINGLOS_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/linglos")

install(TARGETS linglos_runtime EXPORT linglosTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(EXPORT linglosTargets NAMESPACE linglos:: DESTINATION ${LINGLOS_CMAKE_DIR})

if(LINGLOS_ONNXRUNTIME AND LINGLOS_INSTALL_ONNXRUNTIME AND LINGLOS_ONNXRUNTIME_FILE)
  install(FILES "${LINGLOS_ONNXRUNTIME_FILE}" DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libonnxruntime.so.1)
endif()
# Programs that link the static library look here too; the shared library and the tools look beside themselves.
target_compile_definitions(linglos_runtime PRIVATE LINGLOS_LIBRARY_FOLDER="${CMAKE_INSTALL_FULL_LIBDIR}")

configure_package_config_file(cmake/linglosConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/linglosConfig.cmake"
  INSTALL_DESTINATION ${LINGLOS_CMAKE_DIR} PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/linglosConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/linglosConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/linglosConfigVersion.cmake"
  DESTINATION ${LINGLOS_CMAKE_DIR})

# For those who build without CMake.
file(RELATIVE_PATH LINGLOS_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" LINGLOS_PC_PREFIX "${LINGLOS_PC_PREFIX}")
if(BUILD_SHARED_LIBS)
  set(LINGLOS_PC_CFLAGS "")
  set(LINGLOS_PC_LIBS "")
else()
  set(LINGLOS_PC_CFLAGS " -DLINGLOS_STATIC")
  set(LINGLOS_PC_LIBS " -lcrypto -ldl -pthread -lstdc++ -lm")
endif()
configure_file(cmake/linglos.pc.in "${CMAKE_CURRENT_BINARY_DIR}/linglos.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/linglos.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Licences of what is inside.
set(LINGLOS_LICENCE_DIR "${CMAKE_INSTALL_DATADIR}/doc/linglos")
function(linglos_licence name)
  foreach(text ${ARGN})
    if(EXISTS "${text}")
      install(FILES "${text}" DESTINATION ${LINGLOS_LICENCE_DIR} RENAME ${name})
      return()
    endif()
  endforeach()
  message(STATUS "The licence text ${name} is not on this machine: add it to what you ship (see NOTICES.md).")
endfunction()
install(FILES NOTICES.md DESTINATION ${LINGLOS_LICENCE_DIR})
linglos_licence(LICENSE ${CMAKE_CURRENT_SOURCE_DIR}/../LICENSE ${CMAKE_CURRENT_SOURCE_DIR}/LICENSE)
linglos_licence(nlohmann-json.txt /usr/share/doc/nlohmann-json3-dev/copyright)
if(LINGLOS_TOOLS)
  linglos_licence(stb.txt /usr/share/doc/libstb-dev/copyright)
endif()
if(LINGLOS_ONNXRUNTIME AND LINGLOS_INSTALL_ONNXRUNTIME AND LINGLOS_ONNXRUNTIME_FILE)
  get_filename_component(_linglos_folder "${LINGLOS_ONNXRUNTIME_FILE}" DIRECTORY)  # lib/ of an archive, capi/ of a wheel
  linglos_licence(onnxruntime.txt "${_linglos_folder}/../LICENSE")
  linglos_licence(onnxruntime-third-party.txt "${_linglos_folder}/../ThirdPartyNotices.txt")
endif()

# cpack: an archive of what 'cmake --install' puts down.
if(LINGLOS_TOP_LEVEL)
  set(CPACK_GENERATOR TGZ)
  set(CPACK_PACKAGE_NAME linglos)
  set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Runs the bundles of linglos-deploy, from C++ and C")
  set(CPACK_PACKAGE_FILE_NAME "linglos-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}")
  set(CPACK_STRIP_FILES ON)
  include(CPack)
endif()
