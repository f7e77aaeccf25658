// SPDX-License-Identifier: Apache-2.0
// What a read from the cache saves, operator by operator: the part of its recorded time that its
// bytes took at the memory's rate shrinks to what they take at the cache's rate; the rest of the
// time (launch, arithmetic, latency) stays.
#pragma once

#include <cstdint>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve {

struct ReadGain {
  double saved_per_byte_ns = 0;
  double hit_byte_ns = 0;   // that a byte still takes when it hits
  double most_ns = 0;       // down to the operator's known all-hot time and the device's floor
  double useful_bytes = 0;  // bytes that can have been read in the recorded time
  double read_bytes = 0;    // as recorded
  bool clamped = false;     // useful < recorded
};

// `hot_bytes_per_s`: rate of reading what was prefetched.
ReadGain read_gain(const StepOp& op, const DeviceModel& device, double hot_bytes_per_s);

// Rate of reading what `method` fetched: measured with it, else the device's.
double hot_read_rate(const DeviceModel& device, const PrefetchMethod* method);

}  // namespace preserve
