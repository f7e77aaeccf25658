// SPDX-License-Identifier: Apache-2.0
// A kernel's name as one number that is the same for what a driver calls it (mangled by the Itanium
// C++ ABI, or plain) and for what a trace.db calls it (demangled): of the qualified name up to its
// template arguments and parameters. Allocates nothing and throws nothing: used on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/hash.h"
#include "common/mangled_name.h"

namespace preserve::apply {

inline uint64_t kernel_name(std::string_view name) {
  uint64_t hash = kFnvBasis;
  bool is_mangled = false;
  each_identifier(name, [&](std::string_view part) {
    if (is_mangled) hash = fnv_hash("::", hash);
    hash = fnv_hash(part, hash);
    is_mangled = true;
  });
  if (is_mangled) return hash;
  if (name.substr(0, 5) == "void ") name.remove_prefix(5);  // all kernels return nothing
  size_t end = 0;
  while (end < name.size() && name[end] != '<' && name[end] != '[') {
    if (name[end] == '(') {
      if (name.substr(end, kAnonymousNamespace.size()) != kAnonymousNamespace) break;
      end += kAnonymousNamespace.size();
    } else {
      ++end;
    }
  }
  return fnv_hash(end == 0 ? name : name.substr(0, end));
}

}  // namespace preserve::apply
