// SPDX-License-Identifier: Apache-2.0
// An alignment as a person reads it: layer by layer, which kernel runs which operator of the model,
// and what stayed over. Layers that are alike are printed once.
#pragma once

#include <string>

#include "planner/workload/align/alignment.h"

namespace preserve::align {

std::string alignment_table(const Pair& pair);

}  // namespace preserve::align
