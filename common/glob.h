// SPDX-License-Identifier: Apache-2.0
// Names with * and ?. Header-only and without allocation: also asked inside the profiled process.
#pragma once

#include <string_view>

namespace preserve {

// Whole-text match. One place to come back to, so the time is at most pattern times text.
constexpr bool glob_matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace preserve
