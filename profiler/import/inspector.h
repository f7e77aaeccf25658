// SPDX-License-Identifier: Apache-2.0
// A log of NCCL's inspector plugin (JSON lines, one per operation) as a second source: what a
// trace's kernels do not say (message size, communicator, sequence) is filled in from it. It holds
// no operators, so it is only of use together with a trace.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/import/byte_source.h"
#include "profiler/import/comparison_limits.h"

namespace preserve::import {

struct InspectedCollective {
  int64_t sequence = 0, bytes = 0, exec_ns = 0;
  std::string function;  // as in table collective
};

// One communicator as one of its ranks sees it, by rising sequence.
struct InspectedCommunicator {
  int64_t communicator = 0, ranks = 0;
  int64_t rank = 0;  // in the communicator: the run's own only where it holds all of its ranks
  int64_t pid = 0;   // of the process that wrote the line, 0 unknown
  std::vector<InspectedCollective> collectives;
};

struct InspectorLog {
  std::vector<InspectedCommunicator> communicators;
  // `other_lines`: of kinds that name no collective (point-to-point, later additions).
  int64_t received = 0, written = 0, other_lines = 0, bad_lines = 0;
};

// Whether the beginning of a file looks like an inspector log.
bool looks_like_inspector(std::string_view head);
// input_error at the first bad line unless `partial`, which counts them.
InspectorLog read_inspector(ByteSource& source, const std::string& file, bool partial);

// A process of the trace, and what may describe it.
struct InspectedProcess {
  ProcessId process;
  std::vector<const InspectedCommunicator*> communicators{};
};
// What became of a log.
struct InspectorUse {
  int64_t changed = 0;   // collectives
  int64_t too_long = 0;  // processes that got nothing: a limit ended the search for the best place
};
// Fills in the collectives of each process that one of its communicators describes, log by log.
// Messages may be absent from a log (it leaves out small ones): only a collective whose place in
// the sequence is in the log, with a duration that fits, gets its facts.
std::vector<InspectorUse> apply_inspectors(TraceDb& db,
                                           const std::vector<std::vector<InspectedProcess>>& logs,
                                           const ComparisonLimits& limits);

}  // namespace preserve::import
