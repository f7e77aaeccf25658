// SPDX-License-Identifier: Apache-2.0
// A generated step as a trace.db: kWorkloadSteps equal steps of one rank, source 'model', so that
// every tool that reads recordings can read it. fold_step() of the file gives the same step back.
#pragma once

#include <filesystem>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve {

// Writes a finished file at `path`, usually OutputFile::temporary_path(). `step` must come from
// generate_workload(): one stream, whole ns.
void write_workload_trace(const FoldedStep& step, const DeviceModel& device,
                          const std::filesystem::path& path);

}  // namespace preserve
