#include "linglos/bundle.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "files.hpp"
#include "guard.hpp"
#include "manifest.hpp"

namespace linglos {

Error::~Error() = default;
UsageError::~UsageError() = default;
BundleError::~BundleError() = default;
DeviceError::~DeviceError() = default;
BackendError::~BackendError() = default;
IoError::~IoError() = default;
BusyError::~BusyError() = default;

using detail::Descriptor;
using detail::in_quotes;

struct Bundle::State {
  std::string path;
  Descriptor directory;
  Manifest manifest;
  std::string text;

  Descriptor open_checked(const std::string& name, const FileEntry& entry) const {
    Descriptor file = detail::open_inside(directory, path, name);
    const std::uint64_t size = detail::size_of(file);
    if (size != entry.bytes)
      throw BundleError(in_quotes(path + "/" + name) + " is not the file that the manifest describes: found " +
                        std::to_string(size) + " bytes, expected " + std::to_string(entry.bytes) +
                        "; copy the bundle again.");
    return file;
  }

  void check_digest(const std::string& name, const std::string& found, const std::string& expected) const {
    if (found != expected)
      throw BundleError(in_quotes(path + "/" + name) + " was changed after the bundle was made: found SHA-256 " + found +
                        ", expected " + expected.substr(0, 64) + "; copy the bundle again.");
  }
};

namespace {

std::string recorded_digest(const Descriptor& directory, const std::string& path) {
  const std::string suffix = std::string("  ") + detail::kManifest + "\n";
  std::string text;
  try {
    const Descriptor file = detail::open_inside(directory, path, detail::kManifestDigest);
    if (const std::uint64_t size = detail::size_of(file); size == 64 + suffix.size()) {
      const auto data = detail::read_all(file, size, path + "/" + detail::kManifestDigest);
      text.assign(data.begin(), data.end());
    }
  } catch (const Error&) {
    text.clear();  // every reason ends in the same advice
  }
  if (text.size() < 64 || text.find_first_not_of("0123456789abcdef") < 64 || text.substr(64) != suffix)
    throw BundleError(in_quotes(path + "/" + detail::kManifestDigest) +
                      " does not hold the manifest's digest; copy the bundle again from where it was made.");
  return text.substr(0, 64);
}

}  // namespace

Bundle::Bundle(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Bundle Bundle::open(const std::string& path) {
  return detail::only_errors([&] { return Bundle(open_state(path)); });
}

std::shared_ptr<const Bundle::State> Bundle::open_state(const std::string& path) {
  auto state = std::make_shared<State>();
  state->path = path;
  state->directory = detail::open_directory(path);
  if (!state->directory)
    throw BundleError(in_quotes(path) + " is not a bundle: " + std::strerror(errno) +
                      ". Expected a directory made by 'linglos-deploy export'.");
  const std::string shown = path + "/" + detail::kManifest;
  const Descriptor file = detail::open_inside(state->directory, path, detail::kManifest);
  const std::uint64_t size = detail::size_of(file);
  if (size > detail::kMaxManifestBytes)
    throw BundleError(in_quotes(shown) + " is not a manifest: " + std::to_string(size) + " bytes.");
  const auto data = detail::read_all(file, size, shown);
  state->check_digest(detail::kManifest, detail::sha256(data.data(), data.size()),
                      recorded_digest(state->directory, path));
  state->manifest = detail::parse_manifest(data.data(), data.size(), shown);
  state->text.assign(data.begin(), data.end());
  for (const auto& [name, entry] : state->manifest.files)
    state->check_digest(name, detail::sha256(state->open_checked(name, entry), path + "/" + name), entry.sha256);
  return state;
}

const std::string& Bundle::path() const noexcept { return state_->path; }
const Manifest& Bundle::manifest() const noexcept { return state_->manifest; }
const std::string& Bundle::manifest_text() const noexcept { return state_->text; }

std::vector<std::uint8_t> Bundle::read(const std::string& file) const {
  return detail::only_errors([&] { return read_checked(file); });
}

std::vector<std::uint8_t> Bundle::read_checked(const std::string& file) const {
  const auto found = state_->manifest.files.find(file);
  if (found == state_->manifest.files.end())
    throw UsageError("The bundle " + in_quotes(state_->path) + " lists no file " + in_quotes(file) + ".");
  auto data = detail::read_all(state_->open_checked(file, found->second), found->second.bytes,
                               state_->path + "/" + file);
  state_->check_digest(file, detail::sha256(data.data(), data.size()), found->second.sha256);
  return data;
}

}  // namespace linglos
