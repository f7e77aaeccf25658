// SPDX-License-Identifier: Apache-2.0
// Environment variables for as long as it lives.
#pragma once

#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace preserve::test {

class Environment {
 public:
  using Variables = std::map<std::string, std::string>;
  // Of those called `names` there are only `variables`.
  explicit Environment(std::vector<std::string> names, const Variables& variables = {})
      : names_(std::move(names)) {
    for (const std::string& name : names_) {
      if (const char* value = std::getenv(name.c_str())) before_[name] = value;
    }
    become(variables);
  }
  ~Environment() { become(before_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void become(const Variables& variables) const {
    for (const std::string& name : names_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  const std::vector<std::string> names_;
  Variables before_;
};

}  // namespace preserve::test
