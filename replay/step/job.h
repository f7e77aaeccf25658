// SPDX-License-Identifier: Apache-2.0
// trace.db + schedule.json -> something to run, whatever the device: reads both files and checks
// that they belong together. Done once before any rank starts, and again in each rank.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "planner/schedule/schedule.h"
#include "replay/step/program.h"

namespace preserve {

struct ReplayRequest {
  std::string trace, schedule;             // files
  std::optional<int64_t> link_latency_ns;  // as asked for; nothing: the schedule's
  bool candidates = false;
  bool other_recording = false;  // the schedule may be from another one of the same program
  bool oversubscribe = false;
};

struct ReplayJob {
  Schedule schedule;
  StepProgram program;              // of the schedule's rank
  StepProgram rank_program;         // of the rank asked for; the schedule's when that one differs
  std::vector<ReplayArm> arms;      // on rank_program
  int64_t recorded_step_ns = 0;     // slowest rank, without a link
  std::string pages;                // of the program's memory: huge, base; empty: not recorded
  std::vector<std::string> losses;  // what the recording lacks
  std::vector<std::string> warnings;
};

// `rank` picks rank_program; nothing: the schedule's rank.
ReplayJob load_job(const ReplayRequest& request, std::optional<int64_t> rank);

// What runs whatever the time limit: finding the pads, and two passes over all arms.
int64_t least_time_ns(const ReplayJob& job);

}  // namespace preserve
