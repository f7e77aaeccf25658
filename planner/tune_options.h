// SPDX-License-Identifier: Apache-2.0
// The command line of preserve-tune.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "planner/measure/measure_plans.h"
#include "planner/search/plan.h"
#include "planner/workload/workload_options.h"

namespace CLI {
class App;
}

namespace preserve {

// Which steps of a recording are planned; any: each phase that was recorded.
enum class PhaseChoice { decode, prefill, any };
const char* to_string(PhaseChoice choice);

struct TuneOptions {
  std::string trace, device;
  WorkloadOptions workload;          // instead of a trace, or what the trace's kernels read
  std::optional<PhaseChoice> phase;  // default: decode, or prefill where nothing else was recorded
  std::string output = "schedule.json", dimacs;
  bool force = false, explain = false;
  std::optional<int64_t> rank;
  PlanOptions plan;
  std::string learn;  // apply.db
  bool measure = false;
  MeasureRequest replays;  // with `measure`; trace and its digest are filled in by main()

  // Is the step itself the answer? A model on one rank has no collective to prefetch in.
  bool shows_step() const {
    return workload.given() && trace.empty() &&
           (!workload.print.empty() || workload.ranks.value_or(1) == 1);
  }
  // Does the model say what a recording's kernels read?
  bool aligns() const { return workload.given() && !trace.empty(); }
  // What the plan is made from and belongs to: the recording, or what --model wrote; may be empty.
  const std::string& trace_file() const { return workload.given() ? workload.trace_out : trace; }
};

// `options` must outlive the parsing.
void define_options(CLI::App& app, TuneOptions& options);

// usage_error for options that do not go together. `replay_words`: the words after --.
void check_options(TuneOptions& options, std::vector<std::string> replay_words);

}  // namespace preserve
