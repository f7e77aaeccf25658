// SPDX-License-Identifier: Apache-2.0
// The command line's way to a step without a recording, for every tool that plans:
//   --model config.json --tp N --batch B --context C --dtype D [--allreduce-time T] [--trace-out F]
#pragma once

#include <cstdint>
#include <string>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"
#include "planner/workload/workload.h"

namespace CLI {
class App;
}

namespace preserve {

struct WorkloadOptions {
  std::string model;  // empty: not asked for
  int64_t ranks = 1, batch = 1, context = 4096;
  std::string type = "fp16";
  std::string allreduce_time;  // empty: the device's fit
  std::string trace_out;       // empty: not written
  bool given() const { return !model.empty(); }
};

// `options` must outlive the parsing.
void add_workload_options(CLI::App& app, WorkloadOptions& options);

WorkloadSpec workload_spec(const WorkloadOptions& options);

// Makes the step and, when asked for, writes it as a trace. `force`: replace an existing file.
FoldedStep workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force);

}  // namespace preserve
