// SPDX-License-Identifier: Apache-2.0
// Steps that ranges name. What was looked at once is not looked at again: names are only added
// while a trace is written, and the ranges of several processes are gone through together. So many
// processes cost as much as one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "db/step/steps.h"

namespace preserve {

struct StepSpan {
  int64_t start_ns = 0, end_ns = 0;
  int64_t range = 0;  // row of the annotation, 0 for a detected step
  StepPhase phase = StepPhase::unknown;
};
using SpansOfProcesses = std::map<int64_t, std::vector<StepSpan>>;  // by row of table process

// Globs of one way to name steps, by phase.
struct StepFamily {
  std::vector<std::string> decode{}, prefill{}, unknown{};
};
// Most specific first: the first family that occurs in a process is used, because engines nest
// annotations of other frameworks.
const std::vector<StepFamily>& known_step_families();

// Which names say a step, and which one.
class StepNames {
 public:
  explicit StepNames(StepOptions options);
  const StepOptions& options() const { return options_; }

  struct Meaning {
    size_t family = 0;
    size_t glob = 0;  // of the family; of several that match the first one counts
    StepPhase phase = StepPhase::unknown;
  };
  // By row of table string, after a look at the names that were added since the last call.
  const std::unordered_map<int64_t, std::vector<Meaning>>& meanings(const TraceDb& db);

 private:
  StepOptions options_;
  std::vector<StepFamily> families_;
  std::unordered_map<int64_t, std::vector<Meaning>> meanings_;
  int64_t seen_ = 0;  // row of table string
};

// Ranges of the processes that name a step, without an order.
SpansOfProcesses annotated_spans(const TraceDb& db, const std::vector<StepSearch>& searches,
                                 RangeWindow window, StepNames& names);

// A host thread runs ahead of its GPU: the operators that a step launched run after its annotation.
// Moves each span to where the operators launched inside it ran, up to the next one's first.
// Processes without a GPU keep their spans; so do recordings that link no operator to any
// annotation.
void follow_launches(const TraceDb& db, const std::vector<StepSearch>& searches, RangeWindow window,
                     SpansOfProcesses& spans);

}  // namespace preserve
