#include "files.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "linglos/error.hpp"

namespace linglos::detail {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
      throw Error(ErrorCode::internal, "OpenSSL offers no SHA-256.");
  }

  void update(const void* data, std::size_t size) {
    if (EVP_DigestUpdate(context_.get(), data, size) != 1) throw Error(ErrorCode::internal, "SHA-256 failed.");
  }

  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned int size = 0;
    if (EVP_DigestFinal_ex(context_.get(), digest.data(), &size) != 1)
      throw Error(ErrorCode::internal, "SHA-256 failed.");
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
      text += "0123456789abcdef"[digest[i] >> 4];
      text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::size_t read_some(const Descriptor& file, void* out, std::size_t size, const std::string& shown) {
  for (;;) {
    const ssize_t got = ::read(file.get(), out, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) throw IoError(in_quotes(shown) + " cannot be read: " + std::strerror(errno) + ".");
  }
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor open_directory(const std::string& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

Descriptor open_inside(const Descriptor& directory, const std::string& root, const std::string& name) {
  if (!is_confined(name))
    throw BundleError("The manifest of " + in_quotes(root) + " names a path that leaves the bundle: " + in_quotes(name) +
                      ". Do not use this bundle.");
  Descriptor held;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = name.find('/', begin);
    const std::string part = name.substr(begin, end == std::string::npos ? end : end - begin);
    const std::string shown = root + "/" + name.substr(0, end);
    const int parent = held ? held.get() : directory.get();
    // O_NONBLOCK: opening a FIFO must fail the check below, not wait for a writer
    const int kind = end == std::string::npos ? O_NONBLOCK : O_DIRECTORY;
    Descriptor next(::openat(parent, part.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind));
    if (!next) {
      const int error = errno;
      struct stat status = {};
      if (::fstatat(parent, part.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
        throw BundleError(in_quotes(shown) + " is a symbolic link; a bundle holds regular files and directories only.");
      if (error == ENOENT || error == ENOTDIR)
        throw BundleError(in_quotes(shown) + " is missing from the bundle; copy the bundle again.");
      throw IoError(in_quotes(shown) + " cannot be opened: " + std::strerror(error) + ".");
    }
    held = std::move(next);
    if (end == std::string::npos) break;
    begin = end + 1;
  }
  struct stat status = {};
  if (::fstat(held.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw BundleError(in_quotes(root + "/" + name) + " is not the file that the manifest describes: not a regular file.");
  return held;
}

std::uint64_t size_of(const Descriptor& file) {
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) throw IoError(std::string("A file has no size: ") + std::strerror(errno));
  return static_cast<std::uint64_t>(status.st_size);
}

std::vector<std::uint8_t> read_all(const Descriptor& file, std::uint64_t size, const std::string& shown) {
  std::vector<std::uint8_t> data(size);
  std::size_t filled = 0;
  while (filled < data.size()) {
    const std::size_t got = read_some(file, data.data() + filled, data.size() - filled, shown);
    if (got == 0) throw BundleError(in_quotes(shown) + " became shorter while it was read.");
    filled += got;
  }
  return data;
}

std::string sha256(const std::uint8_t* data, std::size_t size) {
  Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

std::string sha256(const Descriptor& file, const std::string& shown) {
  Sha256 hash;
  std::vector<std::uint8_t> chunk(std::size_t{1} << 18);
  while (const std::size_t got = read_some(file, chunk.data(), chunk.size(), shown)) hash.update(chunk.data(), got);
  return hash.hex();
}

bool is_confined(std::string_view name) {
  if (name.empty() || name.size() > 4096) return false;
  if (name.find('\\') != std::string_view::npos || name.find('\0') != std::string_view::npos) return false;
  for (std::size_t begin = 0; begin <= name.size();) {
    std::size_t end = name.find('/', begin);
    if (end == std::string_view::npos) end = name.size();
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 200)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (text.size() > 200) out += "...";
  return out + "'";
}

}  // namespace linglos::detail
