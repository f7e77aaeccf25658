// SPDX-License-Identifier: Apache-2.0
// trace.db + schedule.json -> something to run: reads both files, checks that they belong together
// and that this machine can do it. Done once before any rank starts, and again in each rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "planner/schedule.h"
#include "replay/cpu_executor.h"
#include "replay/host_cores.h"
#include "replay/step_program.h"

namespace preserve {

struct ReplayRequest {
  std::filesystem::path trace, schedule;
  std::optional<int64_t> link_latency_ns;  // as asked for; nothing: the schedule's
  bool candidates = false;
  bool oversubscribe = false;
};

struct ReplayJob {
  Schedule schedule;
  StepProgram program;          // of the schedule's rank
  StepProgram rank_program;     // of the rank asked for; the schedule's when that one differs
  std::vector<ReplayArm> arms;  // on rank_program
  CpuExecutorOptions options;   // spare_cpu is set by each rank
  bool needs_spare_core = false;
  int64_t recorded_step_ns = 0;     // slowest rank, without a link
  int64_t memory_bytes = 0;         // of one rank
  std::vector<std::string> losses;  // what the recording lacks
  std::vector<std::string> warnings;
};

// `rank` picks rank_program; nothing: the schedule's rank.
ReplayJob load_job(const ReplayRequest& request, const HostCores& host,
                   std::optional<int64_t> rank);

// What runs whatever the time limit: finding the pads, and two passes over all arms.
int64_t least_time_ns(const ReplayJob& job);

// Throws when `ranks` ranks do not fit: too few cores (unless the request says oversubscribe), too
// little memory.
void require_cores(const ReplayJob& job, const ReplayRequest& request, const HostCores& host,
                   int64_t ranks);
void require_memory(const ReplayJob& job, int64_t ranks_on_host);

}  // namespace preserve
