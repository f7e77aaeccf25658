// SPDX-License-Identifier: Apache-2.0
// What every device demands of a graph before it runs one, so that a mistake is an error and not a
// wild access or a hang.
#pragma once

#include <span>

#include "replay/gpu/device.h"

namespace preserve {

// `allocations`: what allocate() gave, in any order. internal_error naming node and rule.
void check_graph(const GpuGraph& graph, const GpuFacts& facts,
                 std::span<const GpuRange> allocations);

// Bytes of one element, and of the weights of a gemm node.
int64_t element_bytes(GpuElement element);
int64_t weight_bytes(const GpuNode& gemm);

}  // namespace preserve
