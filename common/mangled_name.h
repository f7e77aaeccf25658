// SPDX-License-Identifier: Apache-2.0
// The qualified name at the front of a name that the Itanium C++ ABI mangled. Header-only and
// without allocation: also used inside foreign processes.
#pragma once

#include <cstddef>
#include <string_view>

namespace preserve {

inline constexpr std::string_view kAnonymousNamespace = "(anonymous namespace)";

// <length><identifier> at the front of `text`, taken off it; empty when there is none.
constexpr std::string_view take_identifier(std::string_view& text) {
  size_t length = 0, digits = 0;
  while (digits < text.size() && digits < 5 && text[digits] >= '0' && text[digits] <= '9') {
    length = length * 10 + static_cast<size_t>(text[digits++] - '0');
  }
  if (length == 0 || length > text.size() - digits) return {};
  const std::string_view identifier = text.substr(digits, length);
  text.remove_prefix(digits + length);
  return identifier;
}

// Namespaces, classes and the function, in this order, without template arguments; none when `name`
// is not mangled, or does not begin with identifiers.
template <typename Take>
constexpr void each_identifier(std::string_view name, Take take) {
  if (!name.starts_with("_Z")) return;
  name.remove_prefix(2);
  const bool nested = name.starts_with("N");
  if (nested) name.remove_prefix(1);
  while (true) {
    if (name.starts_with("St")) {  // is followed by what it qualifies, nested or not
      name.remove_prefix(2);
      take(std::string_view("std"));
      continue;
    }
    if (name.starts_with("L")) name.remove_prefix(1);  // of internal linkage
    const std::string_view part = take_identifier(name);
    if (part.empty()) return;
    take(part.starts_with("_GLOBAL__N") ? kAnonymousNamespace : part);
    if (!nested) return;
  }
}

}  // namespace preserve
