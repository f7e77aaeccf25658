// SPDX-License-Identifier: Apache-2.0
// Calls of a communication library and the kernels that carry them out, on one thread: a call
// stands before the launches that it causes, and inside a group several calls come before theirs.
//   as many calls as kernels    in order, where no function says otherwise
//   several calls, one kernel   fused: bytes added
//   otherwise                   by function, in order
#pragma once

#include <string>
#include <vector>

#include "profiler/gpu/records.h"

namespace preserve::gpu {

struct PairConfidence {
  double alone, in_group, by_function;
};

// Facts for each of `functions`, those of the kernels in order of launch; nothing known of a kernel
// leaves its entry with confidence 0.
std::vector<CollectiveFacts> pair_calls(const std::vector<CollectiveFacts>& calls,
                                        const std::vector<std::string>& functions,
                                        const PairConfidence& confidence);

}  // namespace preserve::gpu
