// SPDX-License-Identifier: Apache-2.0
// Whether a device file belongs to a recording.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"
#include "planner/schedule/device.h"

namespace preserve {

// input_error when the recording's operators ran on another kind of device (cpu, gpu) than `device`
// describes; `device_file` names it. With `force` that is a sentence of the result instead. Another
// sentence where another number of ranks shared a processor than `device` was measured with.
std::vector<std::string> check_device_fits(const TraceDb& db, const DeviceModel& device,
                                           const std::string& device_file, bool force);

}  // namespace preserve
