#include "json.hpp"

#include <nlohmann/json.hpp>
#include <utility>

namespace linglos::detail {
namespace {

constexpr std::size_t kDeepest = 64;

/// Builds a document from the parser's events; each returns false to stop.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(Json& document) : document_(document) {}

  bool null() override { return put({}); }
  bool boolean(bool value) override {
    Json json;
    json.kind = Json::Kind::boolean;
    json.boolean = value;
    return put(std::move(json));
  }
  bool number_integer(std::int64_t value) override {
    Json json;
    json.kind = Json::Kind::integer;
    json.integer = value;
    json.number = static_cast<double>(value);
    return put(std::move(json));
  }
  bool number_unsigned(std::uint64_t value) override {
    if (value <= INT64_MAX) return number_integer(static_cast<std::int64_t>(value));
    Json json;
    json.kind = Json::Kind::integer;
    json.beyond_int64 = true;
    json.number = static_cast<double>(value);
    return put(std::move(json));
  }
  bool number_float(double value, const std::string&) override {
    Json json;
    json.kind = Json::Kind::number;
    json.number = value;
    return put(std::move(json));
  }
  bool string(std::string& value) override {
    Json json;
    json.kind = Json::Kind::string;
    json.string = std::move(value);
    return put(std::move(json));
  }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::Kind::object); }
  bool key(std::string& value) override {
    Json& object = *open_.back();
    if (!object.places.emplace(value, object.items.size()).second) return false;
    object.keys.push_back(std::move(value));
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::Kind::array); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  /// The containers that are open are never moved: only the innermost one grows.
  Json& place(Json&& json) {
    if (open_.empty()) return document_ = std::move(json);
    open_.back()->items.push_back(std::move(json));
    return open_.back()->items.back();
  }
  bool put(Json&& json) {
    place(std::move(json));
    return true;
  }
  bool open(Json::Kind kind) {
    if (open_.size() == kDeepest) return false;
    Json json;
    json.kind = kind;
    open_.push_back(&place(std::move(json)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json& document_;
  std::vector<Json*> open_;
};

}  // namespace

const char* Json::kind_name() const noexcept {
  switch (kind) {
    case Kind::null: return "null";
    case Kind::boolean: return "boolean";
    case Kind::integer:
    case Kind::number: return "number";
    case Kind::string: return "string";
    case Kind::array: return "array";
    case Kind::object: return "object";
  }
  return "unknown";
}

bool parse_json(const std::uint8_t* data, std::size_t size, Json& document) {
  Builder builder(document);
  return nlohmann::json::sax_parse(data, data + size, &builder);
}

}  // namespace linglos::detail
