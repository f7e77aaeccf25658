// SPDX-License-Identifier: Apache-2.0
// Calls of a communication library and the kernels that carry them out, on one thread: a call
// stands before the launches that it causes, and inside a group several calls come before theirs.
//   as many calls as kernels    in order
//   several calls, one kernel   fused: bytes added
//   otherwise                   by function, in order
#pragma once

#include <vector>

#include "profiler/gpu/kernel_rules.h"
#include "profiler/gpu/records.h"

namespace preserve::import {

// Facts for each of `functions`, those of the kernels in order of launch; nothing known of a kernel
// leaves its entry without a source of calls (confidence 0).
std::vector<gpu::CollectiveFacts> pair_calls(const std::vector<gpu::CollectiveFacts>& calls,
                                             const std::vector<std::string>& functions);

}  // namespace preserve::import
