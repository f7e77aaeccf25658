// SPDX-License-Identifier: Apache-2.0
// The processes of a trace that were recorded on several hosts, or in several files, brought onto
// one clock.
#pragma once

#include <string>
#include <vector>

#include "profiler/clocks/clock_line.h"

namespace preserve::clocks {

struct Process {
  ProcessId id;
  std::string host;
  std::string clock{};              // processes with the same one share a clock
  std::vector<Reading> readings{};  // of the launcher's clock, which is the common one then
  int64_t end_ns = 0;
};

struct Outcome {
  std::vector<std::string> notes{}, warnings{};  // a sentence each
  std::vector<std::string> apart{};  // clocks that nothing connects with the others
};

// By round trips to the launcher where a process made them, else by matching collectives; times
// that agree already within the error stay as they are. Fills table `clock`; `db` is still
// producing.
Outcome to_one_clock(TraceDb& db, const std::vector<Process>& processes);

}  // namespace preserve::clocks
