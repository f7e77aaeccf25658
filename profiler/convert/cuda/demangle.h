// SPDX-License-Identifier: Apache-2.0
// Names of C++ kernels as people write them. CUPTI gives them mangled.
#pragma once

#include <string>
#include <vector>

namespace preserve::cuda {

// All names, the mangled ones (Itanium C++ ABI, "_Z...") demangled where that is possible. A name
// of 300 bytes can stand for one of terabytes, so a child process of bounded time and memory does
// it; what that cannot do, and what gets longer than 16 KiB, stays as it is.
std::vector<std::string> demangled(std::vector<std::string> names);

}  // namespace preserve::cuda
