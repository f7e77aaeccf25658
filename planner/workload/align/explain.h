// SPDX-License-Identifier: Apache-2.0
// An alignment as a person reads it: layer by layer, which kernel runs which operator of the model,
// and what stayed over. Layers that are alike are printed once.
#pragma once

#include <string>
#include <vector>

#include "planner/workload/align/alignment.h"

namespace preserve::align {

std::string alignment_table(const Alignment& alignment, const std::vector<Recorded>& recorded,
                            const std::vector<Modelled>& modelled, const FoldedStep& step,
                            const Workload& workload);

}  // namespace preserve::align
