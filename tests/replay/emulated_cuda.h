// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace preserve::emulated {

// Allocations, streams, events and graphs that nobody has given back.
size_t live_objects();

}  // namespace preserve::emulated
