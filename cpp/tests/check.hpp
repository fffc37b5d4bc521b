// The few lines of a test framework that these tests need.
#pragma once

#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct Failure : std::exception {
  explicit Failure(std::string text) : message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::ostringstream text;
  text << file << ":" << line << ": " << what;
  throw Failure(text.str());
}

template <typename Expected, typename Call>
void throws(const char* file, int line, const std::string& part, Call&& call) {
  try {
    call();
  } catch (const Expected& error) {
    if (std::string(error.what()).find(part) == std::string::npos)
      fail(file, line, "the message does not say '" + part + "': " + error.what());
    return;
  }
  fail(file, line, "nothing was thrown; expected a message with '" + part + "'");
}

/// The folder with the bundles that the tests open.
inline std::string& bundles() {
  static std::string path;
  return path;
}

}  // namespace check

#define CHECK_NAME2(line) test_##line
#define CHECK_NAME(line) CHECK_NAME2(line)
#define TEST(name)                                                               \
  static void CHECK_NAME(__LINE__)();                                            \
  static const check::Registration registration_##name(#name, CHECK_NAME(__LINE__)); \
  static void CHECK_NAME(__LINE__)()
#define CHECK(condition) \
  if (!(condition)) check::fail(__FILE__, __LINE__, "not true: " #condition)
#define CHECK_THROWS(type, part, ...) check::throws<type>(__FILE__, __LINE__, part, [&] { __VA_ARGS__; })
