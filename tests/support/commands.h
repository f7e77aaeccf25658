// SPDX-License-Identifier: Apache-2.0
// Commands that tests run, and what they leave behind.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/support/synthetic_trace.h"

namespace preserve::test {

using Words = std::vector<std::string>;

// All in one list: words, and lists of words.
template <typename... Parts>
Words words(const Parts&... parts) {
  Words all;
  const auto add = [&all](const auto& part) {
    if constexpr (std::is_convertible_v<decltype(part), const Words&>) {
      all.insert(all.end(), part.begin(), part.end());
    } else {
      all.push_back(part);
    }
  };
  (add(parts), ...);
  return all;
}

// On whatever machine there is.
inline Words mpirun(int ranks, const Words& command) {
  return words("mpirun", "--oversubscribe", "-n", std::to_string(ranks), command);
}

// Open MPI refuses to run as root without two settings.
inline const Words kAllowRoot{"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
// Open MPI leaks at exit, from plug-ins that are unloaded by then, so no suppression can name them.
// Leaks of our own code are looked for in the tests that do not start MPI.
inline const char* const kNoLeakCheck = "ASAN_OPTIONS=detect_leaks=0";
// For programs into which libraries are preloaded: the sanitizer's is not the first one there.
inline const Words kMpi = words(kAllowRoot, "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0");

// In the order of names.
inline Words names_in(const std::filesystem::path& folder) {
  Words names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace preserve::test
