// SPDX-License-Identifier: Apache-2.0
// What the processes of a run with CUDA graphs left behind, in words.
#pragma once

#include <string>
#include <vector>

#include "apply/run/outcomes.h"

namespace preserve::apply {

// What must be known before the numbers are believed, or why there are none; sentences.
std::vector<std::string> graph_remarks_on(const Outcomes& outcomes);

}  // namespace preserve::apply
