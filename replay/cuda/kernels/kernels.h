// SPDX-License-Identifier: Apache-2.0
// The device's kernels as the host sees them: something to put into a graph or to launch.
#pragma once

#include "replay/cuda/kernels/device_types.h"
#include "replay/gpu/device.h"

namespace preserve::cuda {

struct Kernel {
  const void* function;
  int threads;  // per block
};

template <typename Function>
Kernel kernel(Function* function, int threads) {
  return {reinterpret_cast<const void*>(function), threads};
}

// Nodes; each takes one NodeArgs. `half`: the variant for GpuNode::sm_half.
Kernel read_kernel(bool half);
Kernel prefetch_kernel(GpuFetch fetch, GpuEviction eviction, bool half);
Kernel stand_in_kernel();
Kernel chase_kernel(bool half);
Kernel stamp_kernel();  // only the time: first and last are the same moment

// One block each, with ClosingArgs: before the first step of a run, and at the end of every step.
Kernel opening_kernel();
Kernel closing_kernel();

// void(uint64_t address, uint64_t bytes): the pattern; address and bytes multiples of 16.
Kernel fill_kernel();
// void(uint64_t address, const uint64_t* next, uint64_t lines): line i points to line next[i].
Kernel link_kernel();

// One thread each. void(uint64_t* out, uint64_t rounds): out[0] = ns that a chain of dependent
// arithmetic took.
Kernel arithmetic_kernel();
// void(uint64_t* out): out[0] = the smallest step of the GPU's timer that was seen, in ns.
Kernel timer_tick_kernel();
// void(uint64_t* out, uint32_t sm, uint64_t chain, uint32_t hops): the first block that finds
// itself on `sm` sets out[0] to 1 and out[1] to the cycles of `hops` dependent atomic operations
// along chain, whose place in L2 is one only, unlike that of lines that are merely read.
Kernel sm_latency_kernel();

}  // namespace preserve::cuda
