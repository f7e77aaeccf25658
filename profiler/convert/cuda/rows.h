// SPDX-License-Identifier: Apache-2.0
// The joined records of one process -> rows of trace.db; last step of spool -> trace.db.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/cuda/collectives.h"
#include "profiler/convert/cuda/counter_ranges.h"
#include "profiler/convert/cuda/join.h"
#include "profiler/convert/cuda/operands.h"
#include "profiler/convert/cuda/run.h"
#include "profiler/gpu/kernel_rules.h"

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
  const GrowingArray<HostRange>& ranges;  // [0] is number 1
  const gpu::KernelRules& rules;
  const std::vector<NamedMemory>& named_memory;
  // For a kernel whose parameters say nothing: adds the accesses that the names of its ranges tell.
  // `gpu`: number of the device; `range`: the innermost one's name; `instance`: differs between two
  // occurrences of a range.
  std::function<void(OpId op, int64_t gpu, StringId range, uint64_t instance, int64_t start_ns)>
      add_by_range{};
};

struct RowSummary {
  int64_t ops = 0, collectives = 0, copies = 0, waits = 0;
  JoinSummary join;
  CallSummary calls;
  OperandSummary operands;
  CounterSummary counters;
};

// Joins `run` and writes devices, streams, projected ranges, ops, collectives and losses.
RowSummary write_rows(Run& run, const RowTarget& target);

}  // namespace preserve::cuda
