// SPDX-License-Identifier: Apache-2.0
// What libraries said about their collectives -> the launches that carried them out. Pure.
//
// A library call stands on its thread before the launches that it causes; inside a group several
// calls come first and the launches follow in ncclGroupEnd. So: per thread, calls gather until a
// launch of a communication kernel, and the launches gather until the next call; then the two lists
// are paired.
//   as many calls as launches   in order                      one pair 1.0, several 0.8
//   one launch, several calls   fused: bytes added            0.8
//   otherwise                   in order, where the functions agree   0.5
// Confidence of an NVTX payload is 0.9 of that (no type, no sequence number); of the arguments of a
// custom kernel 0.8 (kernel_arguments.h); of a name alone 0.5.
#pragma once

#include <unordered_map>
#include <vector>

#include "profiler/convert/cuda/run.h"
#include "profiler/gpu/kernel_rules.h"

namespace preserve::cuda {

struct CallSummary {
  int64_t calls = 0;    // reported by libraries
  int64_t matched = 0;  // of these: given to a launch
};

using CollectivesByLaunch = std::unordered_map<uint32_t, gpu::CollectiveFacts>;

// `identities`: what each of run.names is. Launches need their origin links (join.h).
CollectivesByLaunch assign_calls(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                                 CallSummary& summary);

}  // namespace preserve::cuda
