// SPDX-License-Identifier: Apache-2.0
// What a recording without named tensors can tell already, before anybody annotates anything: how
// long the collectives are, how many bytes could move during them, and what that could gain at
// most.
#pragma once

#include <string>

#include "planner/search/plan.h"

namespace preserve {

// Whether some operator reads a weight or a KV-cache. If none does there is nothing to plan.
bool reads_named_memory(const FoldedStep& step);

// The step as if every computing operator read a weight of its own, as large as the memory delivers
// while it runs: no naming can give prefetches more to do.
FoldedStep as_if_named(const FoldedStep& step, const DeviceModel& device);

// A few lines for a person; ends with what to do next. Throws input_error when the step has no
// collective.
std::string answer_without_names(const FoldedStep& step, const DeviceModel& device,
                                 const PlanOptions& options);

}  // namespace preserve
