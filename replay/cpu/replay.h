// SPDX-License-Identifier: Apache-2.0
// A replay on the cores of this host: what it needs of them, and the run inside each rank.
#pragma once

#include <cstdint>

#include "replay/cpu/executor.h"
#include "replay/cpu/host_cores.h"
#include "replay/measure/on_ranks.h"

namespace preserve {

struct CpuPlan {
  std::vector<ReplayArm> arms;  // the job's, each with a method that processors know
  CpuExecutorOptions options;   // spare_cpu is set by each rank
  bool needs_spare_core = false;
  int64_t memory_bytes = 0;  // of one rank
};

// input_error when a plan fetches in a way that processors do not know.
CpuPlan plan_for_cpu(const ReplayJob& job, const ReplayRequest& request, const HostCores& host);

// Throws when `ranks` ranks do not fit: too few cores (unless the request says oversubscribe), too
// little memory.
void require_cores(const CpuPlan& plan, const ReplayRequest& request, const HostCores& host,
                   int64_t ranks);
void require_memory(const CpuPlan& plan, int64_t ranks_on_host);

// Pins, rebuilds, measures. The record is whole on rank 0 alone. Collective over all ranks.
ReplayRecord replay_on_cpu(const Ranks& ranks, const ReplayJob& job, const CpuPlan& plan,
                           const ReplayRequest& request, const HostCores& host,
                           const MeasureOptions& options);

}  // namespace preserve
