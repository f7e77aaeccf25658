// SPDX-License-Identifier: Apache-2.0
// Which bytes of which tensors may travel ahead of the operator that reads them: weights and KV
// that nothing writes within the step (of a KV-cache all but the newest token), and that the cache
// has evicted since their last use.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/problem/problem.h"

namespace preserve {

// Slices per operator, in the order of its operands. `footprint_bytes` per operator; `cache_bytes`:
// a tensor touched again after fewer bytes than this is still cached. Adds to `notes`.
std::vector<std::vector<Slice>> find_candidates(const FoldedStep& step,
                                                const std::vector<int64_t>& footprint_bytes,
                                                int64_t cache_bytes, ProblemNotes& notes);

}  // namespace preserve
