#include "library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

#include "files.hpp"
#include "guard.hpp"

#ifndef LINGLOS_LIBRARY_FOLDER
#define LINGLOS_LIBRARY_FOLDER ""
#endif

namespace linglos {
namespace detail {
namespace {

struct Settings {
  std::mutex mutex;
  std::map<BackendKind, std::string> paths;
};

Settings& settings() {
  static Settings instance;
  return instance;
}

std::string chosen_path(BackendKind backend, const char* variable) {
  {
    const std::lock_guard<std::mutex> lock(settings().mutex);
    if (const auto found = settings().paths.find(backend); found != settings().paths.end()) return found->second;
  }
  const char* given = std::getenv(variable);
  return given == nullptr ? "" : given;
}

/// The folder of the file that this code was linked into: liblinglos.so, or the program itself.
std::string own_folder() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  char* real = realpath(info.dli_fname, nullptr);
  std::string path = real == nullptr ? info.dli_fname : real;
  std::free(real);
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

std::vector<std::string> folders() {
  std::vector<std::string> found;
  if (const std::string own = own_folder(); !own.empty()) {
    found.push_back(own);
    found.push_back(own + "../lib/");
  }
  if (const std::string configured = LINGLOS_LIBRARY_FOLDER; !configured.empty()) found.push_back(configured + "/");
  found.emplace_back();  // the system's loader
  return found;
}

void* load(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

std::string loader_message() {
  const char* said = dlerror();
  return said == nullptr ? "no reason given" : said;
}

}  // namespace

Library::Library(void* handle, std::string title, std::string path)
    : handle_(handle), title_(std::move(title)), path_(std::move(path)) {}

Library Library::open(BackendKind backend, const char* title, const char* variable,
                      const std::vector<std::string>& names) {
  if (const std::string path = chosen_path(backend, variable); !path.empty()) {
    if (void* handle = load(path)) return {handle, title, path};
    throw BackendError(std::string(title) + " cannot be loaded from " + in_quotes(path) + ": " + loader_message() +
                       ". Check the path that " + variable + " or set_library() gives.");
  }
  for (const std::string& folder : folders())
    for (const std::string& name : names)
      if (void* handle = load(folder + name)) return {handle, title, folder + name};
  throw BackendError(std::string(title) + " is not installed: " + names.front() + " is neither beside this program nor where the system's loader looks. "
                     "Install it, or name the file with " + variable + " or set_library().");
}

void* Library::address(const char* name) const noexcept { return dlsym(handle_, name); }

void Library::missing(const char* name) const {
  throw BackendError(in_quotes(path_) + " is not a usable " + title_ + ": it has no function " + name + ".");
}

}  // namespace detail

void set_library(BackendKind backend, const std::string& path) {
  detail::only_errors([&] {
    if (backend == BackendKind::automatic) throw UsageError("set_library needs a backend by name.");
    const std::lock_guard<std::mutex> lock(detail::settings().mutex);
    if (path.empty())
      detail::settings().paths.erase(backend);
    else
      detail::settings().paths[backend] = path;
  });
}

}  // namespace linglos
