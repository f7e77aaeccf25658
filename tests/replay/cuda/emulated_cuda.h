// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace preserve::emulated {

// Allocations, streams, events and graphs that nobody has given back.
size_t live_objects();

struct Allocation {
  uint64_t base = 0, bytes = 0;
};
Allocation allocation_around(uint64_t address);  // of device memory; no bytes: there is none

// The set-aside of L2 cannot be changed then.
extern bool under_mps;
extern int set_asides;  // how often it was changed

}  // namespace preserve::emulated
