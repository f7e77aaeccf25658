// SPDX-License-Identifier: Apache-2.0
// The one error type of the tools. Libraries throw it, run_tool() (cli.h) catches it once and turns
// the kind into the exit code. A message says what is wrong, where (file, row, JSON pointer), and
// what to do. Code inside a profiled process never throws: see profiler/collector.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace preserve {

enum class ErrorKind {
  usage,           // the command line is wrong: exit 2
  input,           // a file or the environment is wrong: exit 2
  internal,        // a defect of ours: exit 3
  not_applicable,  // a valid request that this model or device cannot meet: exit 4
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <typename... Args>
[[nodiscard]] Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::usage, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[nodiscard]] Error input_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::input, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[nodiscard]] Error not_applicable_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::not_applicable, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[nodiscard]] Error internal_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::internal, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace preserve
