// SPDX-License-Identifier: Apache-2.0
// Do the figures of a calibration repeat? Its rounds are drawn anew, in blocks, for the intervals;
// its two halves are compared. Pure.
#pragma once

#include <string>
#include <vector>

#include "replay/calibrate/calibration.h"

namespace preserve {

// The rounds of each host, by the hosts' names.
std::vector<std::vector<CalibrationSamples>> by_host(const std::vector<CalibrationSamples>& rounds);

// All rounds as one.
CalibrationSamples pooled(const std::vector<CalibrationSamples>& rounds);

// Why the figures do not repeat: the halves or the ends of an interval differ by more than 10 % in
// the budget or 5 % in a rate, or most samples were interrupted. Empty: they do. Without
// `intervals` of the device only the halves are compared. `part` of these 10 and 5 % is allowed.
std::string unsteady_reason(const std::vector<CalibrationSamples>& rounds,
                            const DeviceModel& device, double part = 1);

// device_from() all rounds, with intervals and verdict, which is unsteady as well where the core's
// clock varies by more than 5 %: measuring longer does not help against that. Of several hosts: the
// device of the one that keeps least in its cache, then of the slowest memory, with a note on each;
// unsteady when any is.
DeviceModel judged_device(const std::vector<CalibrationSamples>& rounds);

}  // namespace preserve
