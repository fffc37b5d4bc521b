// Reading files that must lie inside a directory, and hashing what was read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace linglos::detail {

/// An open file or directory.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_;
};

/// Opens a directory.
Descriptor open_directory(const std::string& path);

/// Opens a regular file below `directory` without following any symbolic link on the way.
///
/// Throws BundleError for a path that leaves the directory, a link, a missing file or one that is not regular.
/// `root` is only used in messages.
Descriptor open_inside(const Descriptor& directory, const std::string& root, const std::string& name);

/// Size of an open file in bytes.
std::uint64_t size_of(const Descriptor& file);

/// Reads a whole file of exactly `size` bytes.
std::vector<std::uint8_t> read_all(const Descriptor& file, std::uint64_t size, const std::string& shown);

/// SHA-256 in hexadecimal.
std::string sha256(const std::uint8_t* data, std::size_t size);
std::string sha256(const Descriptor& file, const std::string& shown);

/// Returns whether `name` is a plain relative path: no `..`, no `.`, no empty part, no backslash, no NUL.
bool is_confined(std::string_view name);

/// For messages: `text` in quotes, without control characters, cut at 200 bytes.
std::string in_quotes(std::string_view text);

}  // namespace linglos::detail
