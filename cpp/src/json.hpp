// JSON values that can be destroyed without memory: nlohmann's own tree allocates in its destructor, and a destructor
// that fails ends the process. The parser is nlohmann's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace linglos::detail {

struct Json {
  enum class Kind { null, boolean, integer, number, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  bool beyond_int64 = false;  ///< An integer that does not fit; `number` has it, rounded.
  std::int64_t integer = 0;
  double number = 0.0;              ///< Of integers too.
  std::string string;
  std::vector<Json> items;          ///< Of an array, or of an object in the order of `keys`.
  std::vector<std::string> keys;    ///< Of an object.
  std::map<std::string, std::size_t> places;  ///< Of each key.

  /// The member of an object; null if there is none.
  const Json* find(const std::string& key) const {
    const auto found = places.find(key);
    return found == places.end() ? nullptr : &items[found->second];
  }

  /// As messages call it.
  const char* kind_name() const noexcept;
};

/// Parses a document; false if it is no JSON, repeats a key, or is nested more than 64 deep.
bool parse_json(const std::uint8_t* data, std::size_t size, Json& document);

}  // namespace linglos::detail
