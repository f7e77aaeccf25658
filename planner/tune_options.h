// SPDX-License-Identifier: Apache-2.0
// The command line of preserve-tune.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "planner/search/plan.h"
#include "planner/workload/workload_options.h"

namespace CLI {
class App;
}

namespace preserve {

struct TuneOptions {
  std::string trace, device;
  WorkloadOptions workload;  // instead of a trace
  std::string output = "schedule.json", dimacs;
  bool force = false, explain = false;
  std::optional<int64_t> rank;
  std::string strategy = "flow", windows = "collective", bfs_scope = "window", bfs_full = "stop";
  std::string budget, link = "0", min_prefetch = "16KiB", window_cost, method;
  int candidates = 3;
  uint64_t seed = 1;
  bool measure = false;
  std::string measure_time = "60s", keep_replays;
  int rounds = 2;
  std::vector<std::string> replay_words;  // behind --: for preserve-replay

  // What the plan is made from and belongs to: the recording, or what --model wrote; may be empty.
  const std::string& trace_file() const { return workload.given() ? workload.trace_out : trace; }
};

// `options` must outlive the parsing.
void define_options(CLI::App& app, TuneOptions& options);

// `rest`: the words behind --, for preserve-replay. usage_error for what does not go together.
void check_options(TuneOptions& options, std::vector<std::string> rest);

PlanOptions plan_options(const TuneOptions& options);
int64_t measure_time_ns(const TuneOptions& options);

}  // namespace preserve
