// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace preserve::emulated {

// Allocations, streams, events and graphs that nobody has given back.
size_t live_objects();

// The set-aside of L2 cannot be changed then.
extern bool under_mps;
extern int set_asides;  // how often it was changed

}  // namespace preserve::emulated
