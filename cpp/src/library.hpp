// Vendor libraries are opened when they are first needed, so that one build runs with any release, and without any.
#pragma once

#include <string>
#include <vector>

#include "linglos/session.hpp"

namespace linglos::detail {

/// A shared library that stays loaded until the process ends: its own threads may outlive everything of ours.
class Library {
 public:
  /// Opens the library of a backend: the file that set_library() or the environment variable names and no other, else
  /// the first that loads of `names`, each beside this library, in ../lib of that, in the folder that was configured,
  /// and where the system's loader looks.
  ///
  /// Throws BackendError: "ONNX Runtime is not installed: …", or why it does not load.
  static Library open(BackendKind backend, const char* title, const char* variable,
                      const std::vector<std::string>& names);

  /// The address of a function; null if there is none.
  template <typename Function>
  Function* find(const char* name) const noexcept {
    return reinterpret_cast<Function*>(address(name));
  }

  /// The same, but throws BackendError where there is none.
  template <typename Function>
  Function* get(const char* name) const {
    auto* found = find<Function>(name);
    if (found == nullptr) missing(name);
    return found;
  }

  /// Where it was found.
  const std::string& path() const noexcept { return path_; }

 private:
  Library(void* handle, std::string title, std::string path);
  void* address(const char* name) const noexcept;
  [[noreturn]] void missing(const char* name) const;

  void* handle_;
  std::string title_;
  std::string path_;
};

}  // namespace linglos::detail
