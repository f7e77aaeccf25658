// SPDX-License-Identifier: Apache-2.0
// How fast the memory was when the step was recorded.
#pragma once

#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve {

// The memory of a shared machine is as fast as its other guests let it be. Where operators of the
// step that read a MiB or more read by a rate (the median over their bytes) that cold reads had
// during the calibration as well, `device` with that rate, and `said` gets a sentence if it is a
// tenth less; otherwise as it is: slower operators are held up by something else, their arithmetic.
DeviceModel with_recorded_memory(const DeviceModel& device, const FoldedStep& step,
                                 std::vector<std::string>& said);

}  // namespace preserve
