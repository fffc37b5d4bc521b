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
