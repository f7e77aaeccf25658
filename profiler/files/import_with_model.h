// SPDX-License-Identifier: Apache-2.0
// preserve-profile --import FILE... --model config.json: the trace of another profiler together
// with the weights and KV that the kernels of its steps read by the model that ran.
#pragma once

#include <filesystem>

#include "common/cli.h"
#include "planner/workload/workload_options.h"
#include "profiler/import/import.h"

namespace preserve {

// Writes `output` with all that import::run_import() would write, and prints which rank runs what.
// input_error, with nothing written, when a step is not one of the model (`force`: a warning).
int import_with_model(import::ImportOptions options, const WorkloadOptions& model,
                      const std::filesystem::path& device, const std::filesystem::path& output,
                      bool force, Console& console);

}  // namespace preserve
