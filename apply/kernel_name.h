// SPDX-License-Identifier: Apache-2.0
// A kernel's name as one number that is the same for what a driver calls it (mangled by the Itanium
// C++ ABI, or plain) and for what a trace.db calls it (demangled): of the qualified name up to its
// template arguments and parameters. Allocates nothing and throws nothing: used on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace preserve::apply {

class NameHash {
 public:
  void add(std::string_view text) {
    for (const char c : text) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    empty_ = empty_ && text.empty();
  }
  bool empty() const { return empty_; }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
  bool empty_ = true;
};

inline constexpr std::string_view kAnonymous = "(anonymous namespace)";

// <length><identifier> at the front of `text`, taken off it; empty when there is none.
inline std::string_view take_identifier(std::string_view& text) {
  size_t length = 0, digits = 0;
  while (digits < text.size() && digits < 5 && text[digits] >= '0' && text[digits] <= '9') {
    length = length * 10 + static_cast<size_t>(text[digits++] - '0');
  }
  if (length == 0 || length > text.size() - digits) return {};
  const std::string_view identifier = text.substr(digits, length);
  text.remove_prefix(digits + length);
  return identifier;
}

// Nothing in it when `name` is not mangled, or does not begin with identifiers.
inline NameHash hash_of_mangled(std::string_view name) {
  NameHash hash;
  if (name.substr(0, 2) != "_Z") return hash;
  name.remove_prefix(2);
  const bool nested = name.substr(0, 1) == "N";
  if (nested) name.remove_prefix(1);
  do {
    std::string_view part = "std";
    if (name.substr(0, 2) == "St") {
      name.remove_prefix(2);
    } else {
      if (name.substr(0, 1) == "L") name.remove_prefix(1);  // of internal linkage
      part = take_identifier(name);
      if (part.empty()) break;
      if (part.substr(0, 10) == "_GLOBAL__N") part = kAnonymous;
      // "St" is followed by what it qualifies, nested or not.
      if (!nested) name = {};
    }
    if (!hash.empty()) hash.add("::");
    hash.add(part);
  } while (!name.empty());
  return hash;
}

inline uint64_t kernel_name(std::string_view name) {
  NameHash hash = hash_of_mangled(name);
  if (!hash.empty()) return hash.value();
  if (name.substr(0, 5) == "void ") name.remove_prefix(5);  // all kernels return nothing
  size_t end = 0;
  while (end < name.size() && name[end] != '<' && name[end] != '[') {
    if (name[end] == '(') {
      if (name.substr(end, kAnonymous.size()) != kAnonymous) break;
      end += kAnonymous.size();
    } else {
      ++end;
    }
  }
  hash.add(end == 0 ? name : name.substr(0, end));
  return hash.value();
}

}  // namespace preserve::apply
