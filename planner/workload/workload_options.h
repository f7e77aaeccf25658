// SPDX-License-Identifier: Apache-2.0
// Options that make a step without a recording, for every tool that plans:
//   --model config.json --tp N --batch B --context C --dtype D [--allreduce-time T] [--trace-out F]
#pragma once

#include <string>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"
#include "planner/workload/workload.h"

namespace CLI {
class App;
}

namespace preserve {

struct WorkloadOptions {
  std::string model;      // empty: not asked for
  WorkloadSpec spec;      // but for its model
  std::string trace_out;  // empty: not written
  bool given() const { return !model.empty(); }
};

// `options` must outlive the parsing.
void add_workload_options(CLI::App& app, WorkloadOptions& options);

// Makes the step and, when asked for, writes it as a trace. `force`: replace an existing file.
FoldedStep workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force);

}  // namespace preserve
