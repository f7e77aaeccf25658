// SPDX-License-Identifier: Apache-2.0
// On which pages the process has its own (anonymous) memory, as the kernel counts it: a replay puts
// its tensors on such pages too. Asked for by the writer thread alone.
#pragma once

#include <cstdint>

namespace preserve::collector {

struct PageUse {
  uint64_t anonymous_bytes = 0;
  uint64_t huge_bytes = 0;  // of these, on huge pages
};

// At the beginning, so that no descriptor comes and goes later; and before a fork that goes on in
// the child.
void open_page_use();
void close_page_use();
// False where the kernel does not tell, or the program has closed the descriptor.
bool read_page_use(PageUse* use);

}  // namespace preserve::collector
