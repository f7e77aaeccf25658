// SPDX-License-Identifier: Apache-2.0
// The function that a program would call without this module, whose own has the same name: the C
// library's, or that of another tool.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace preserve::hooks {

template <size_t size>
struct SymbolName {
  constexpr SymbolName(const char (&name)[size]) { std::copy_n(name, size, text); }
  char text[size];
};

inline void* find_next(const char* name) {
  return ::dlsym(RTLD_NEXT, name);
}

// Looked for once; nullptr where there is none.
template <SymbolName name, typename Function, auto find = find_next>
Function* next_of() {
  static std::atomic<Function*> known{nullptr};
  Function* function = known.load(std::memory_order_acquire);
  if (__builtin_expect(function != nullptr, 1)) return function;
  function = reinterpret_cast<Function*>(find(name.text));
  known.store(function, std::memory_order_release);
  return function;
}

}  // namespace preserve::hooks
