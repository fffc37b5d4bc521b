// The directory that ships: opened only after every byte of it was checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linglos/error.hpp"
#include "linglos/export.h"
#include "linglos/manifest.hpp"

namespace linglos {

/// A bundle on disk. Immutable and safe to share between threads; copies share one state, and a move is a copy.
class LINGLOS_API Bundle {
 public:
  /// Opens a bundle and checks the size and the SHA-256 of every file.
  ///
  /// Throws BundleError if the manifest is missing, damaged or of another schema, or a file is missing, has another
  /// size or digest, is a symbolic link or lies outside the directory; IoError if the system refuses a read.
  static Bundle open(const std::string& path);

  Bundle(const Bundle&) = default;
  Bundle& operator=(const Bundle&) = default;

  const std::string& path() const noexcept;
  const Manifest& manifest() const noexcept;

  /// The text of manifest.json, as it was checked.
  const std::string& manifest_text() const noexcept;

  /// Returns a file that the manifest lists, checked once more: the bytes returned are the bytes that were hashed.
  std::vector<std::uint8_t> read(const std::string& file) const;

 private:
  struct State;
  explicit Bundle(std::shared_ptr<const State> state);
  static std::shared_ptr<const State> open_state(const std::string& path);
  std::vector<std::uint8_t> read_checked(const std::string& file) const;
  std::shared_ptr<const State> state_;
};

}  // namespace linglos
