// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace preserve {

// Of a child's environment, by name.
using Variables = std::vector<std::pair<std::string, std::string>>;

// A variable of this process's environment; empty: it has none, or an empty one.
inline std::string environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

// Of this machine; empty: it does not say.
inline std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof(name)) == 0 ? name : "";
}

// First line of a file, as the kernel's are; empty where it cannot be read.
inline std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace preserve
