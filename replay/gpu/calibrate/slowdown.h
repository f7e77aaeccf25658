// SPDX-License-Identifier: Apache-2.0
// How much prefetches slow down operators beside them, by class: docs/replay.md. Pure.
#pragma once

#include "replay/gpu/calibrate/calibration.h"

namespace preserve {

// ns per prefetched byte by which the operator lasts longer, beyond what sharing the memory costs
// in the planner's model; per round.
Series slowdown_per_byte(const OperatorTimes& times, double prefetch_bytes_per_s,
                         double memory_bytes_per_s);

// Gives each method of `device` its slow-downs with their intervals; of a class whose figure does
// not repeat a note instead.
void add_slowdowns(const GpuCalibrationSamples& samples, DeviceModel& device);

}  // namespace preserve
