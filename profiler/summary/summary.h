// SPDX-License-Identifier: Apache-2.0
// preserve-profile --summary: what is in a trace.db, for a person. Losses come first. Times of a
// class are unions of intervals: overlapping operators count once, so classes may add up to more
// than the wall time but none exceeds it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/cli.h"
#include "db/trace_db.h"

namespace preserve::summary {

struct ClassTime {
  std::string name;  // matmul, attention, ...; or the operator's kind on a host thread
  int64_t count = 0;
  int64_t busy_ns = 0;  // union
};

struct CollectiveGroup {
  std::string function;
  int64_t count = 0, with_bytes = 0, bytes = 0;
  double median_ns = 0, p90_ns = 0, max_ns = 0;
};

struct ProcessSummary {
  std::string label;  // "rank 0 of 2", "process 3"
  int64_t operators = 0;
  int64_t wall_ns = 0;                           // first operator to last
  int64_t busy_ns = 0;                           // union of all operators
  int64_t summed_ns = 0;                         // sum of durations, for comparison
  int64_t communication_ns = 0, exposed_ns = 0;  // unions; exposed: nothing else ran
  std::vector<ClassTime> classes;                // by falling time
  std::vector<CollectiveGroup> collectives;      // by falling total time
  int64_t steps = 0, decode = 0, prefill = 0;
  double step_median_ns = 0;
  std::string step_source;
  // Of the compute operators' summed time: whose bytes are known, and how.
  int64_t compute_ns = 0, bytes_certain_ns = 0, bytes_inferred_ns = 0, in_range_ns = 0;
};

ProcessSummary summarize_process(const TraceDb& db, ProcessId process);

// The whole report as text.
std::string summarize(const TraceDb& db);

int run_summary(const std::filesystem::path& trace, Console& console);

}  // namespace preserve::summary
