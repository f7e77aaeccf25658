// SPDX-License-Identifier: Apache-2.0
// The joined records of one process -> rows of trace.db; last step of spool -> trace.db.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/cuda/collectives.h"
#include "profiler/cuda/join.h"
#include "profiler/cuda/run.h"
#include "profiler/import/kernel_rules.h"

namespace preserve::cuda {

// A range of a host thread. Position::range and Launch::range count these from 1; parents come
// first.
struct HostRange {
  StringId name, domain{};
  uint32_t parent = 0;  // same numbering, 0: none
  RangeId row{};
  int64_t depth = 0;
};

struct RowTarget {
  TraceDb& db;
  ProcessId process;
  std::string host;
  const std::vector<HostRange>& ranges;  // [0] is number 1
  const import::KernelRules& rules;
};

struct RowSummary {
  int64_t ops = 0, collectives = 0, copies = 0;
  JoinSummary join;
  CallSummary calls;
};

// Joins `run` and writes devices, streams, projected ranges, ops, collectives and losses.
RowSummary write_rows(Run& run, const RowTarget& target);

}  // namespace preserve::cuda
