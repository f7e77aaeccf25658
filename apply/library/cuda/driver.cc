// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/driver.h"

#include <dlfcn.h>

namespace preserve::apply {

bool Driver::load(const char*& missing) {
  missing = "libcuda.so.1";
  void* library = ::dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
  if (library == nullptr) return false;
#define PRESERVE_DRIVER_RESOLVE(member, function, symbol)                \
  missing = symbol;                                                      \
  member = reinterpret_cast<decltype(member)>(::dlsym(library, symbol)); \
  if (member == nullptr) return false;
  PRESERVE_DRIVER_FUNCTIONS(PRESERVE_DRIVER_RESOLVE)
#undef PRESERVE_DRIVER_RESOLVE
  return true;
}

}  // namespace preserve::apply
