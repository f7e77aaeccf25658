// SPDX-License-Identifier: Apache-2.0
// How fast the memory was when the step was recorded.
#pragma once

#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve {

// The memory of a shared machine is as fast as its other guests let it be. Where those operators of
// the step that read a MiB or more did so at a rate (the median over their bytes) between the two
// of `device`, it is returned with that rate as its higher one, and `said` gets a sentence if that
// is a tenth less. Otherwise as it is: slower operators, and a prefill, are taken to be held up by
// their arithmetic, not by the memory.
DeviceModel with_recorded_memory(const DeviceModel& device, const FoldedStep& step,
                                 std::vector<std::string>& said);

}  // namespace preserve
