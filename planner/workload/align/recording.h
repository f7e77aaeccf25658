// SPDX-License-Identifier: Apache-2.0
// preserve-tune trace.db --model config.json: the recorded step with the operands that the model
// gives to its operators, and the trace with them, which replay and reports read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/workload/align/operands.h"
#include "planner/workload/workload_options.h"

namespace preserve::align {

struct AlignedStep {
  FoldedStep step;           // with its doubts as warnings
  FoldedRows rows;           // of the recording
  std::vector<Given> given;  // to its operators
  std::string summary;       // several lines: what was matched, and by which numbers
  std::string table;         // layer by layer
};

// Folds the step of `rank` and `phase` as fold_step() does and aligns it with the model of
// `options`. Ranks and tokens come from the recording where it says them, else from the options;
// usage_error when neither says the ranks. input_error naming the first disagreement when the step
// is not one of this model; with `force` that is a warning.
AlignedStep align_step(const TraceDb& db, std::optional<int64_t> rank,
                       std::optional<StepPhase> phase, const WorkloadOptions& options,
                       const DeviceModel& device, bool force);

// The steps of all ranks and phases that the trace has.
std::vector<AlignedStep> align_trace(const TraceDb& db, const WorkloadOptions& options,
                                     const DeviceModel& device, bool force);

// All of the trace `from`, and what was given to the steps of `aligned`, as a new file at `to`.
void write_aligned_trace(const std::filesystem::path& from, const std::vector<AlignedStep>& aligned,
                         const std::string& model, const std::filesystem::path& to);

}  // namespace preserve::align
