// SPDX-License-Identifier: Apache-2.0
// A process that ran kernels on several GPUs becomes one process of trace.db per GPU, as in
// imported traces: what runs on one GPU hides nothing of another, so exposed time, steps, windows
// and plans are of one GPU each. The first GPU stays with what the threads did; the others get the
// ranges around what was launched on them. A GPU that was only copied to makes none.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

constexpr size_t kMostGpus = 1024;  // of a process; more are numbers of a damaged recording

// Moves the GPUs after the first of `process` to processes like `row`. What it ran on GPUs is all
// written, behind the operator `before`, and its ranges from row `first_range` on. The processes
// that ran kernels, in the order of their GPUs; empty for one without any. More than kMostGpus stay
// one process, and `warnings` gets a sentence about `name`.
std::vector<ProcessId> one_process_per_gpu(TraceDb& db, ProcessId process, const ProcessRow& row,
                                           int64_t before, int64_t first_range,
                                           const std::string& name,
                                           std::vector<std::string>& warnings);

struct RecordedProcess {
  ProcessId id;
  std::string name;  // for messages
  std::optional<int64_t> rank{}, world_size{};
  std::vector<ProcessId> gpus{};  // one_process_per_gpu()
};
// Counts GPUs as ranks where some process ran kernels on several, so that each can be planned.
// `processes`: by rank, those without one last; where none has a rank they are counted in that
// order. Where ranks are missing, only the first GPU of each keeps its rank: merge_traces() counts
// when it has them all. A sentence for each process that became several.
std::vector<std::string> count_gpus_as_ranks(TraceDb& db,
                                             const std::vector<RecordedProcess>& processes);

}  // namespace preserve
