// SPDX-License-Identifier: Apache-2.0
// How long a rebuilt step has to wait where, so that it lasts as long as the recorded one did:
// found from a run of the baseline, the same in every arm.
#pragma once

#include <vector>

#include "replay/gpu/device.h"
#include "replay/gpu/step_graph.h"

namespace preserve {

// A node that cannot be looked into (a library's) is timed from the end of what is before it to the
// beginning of what is after it: its own time and two launches. 0 for all others.
double launches_inside_ns(const ProgramOp& op, const GraphRules& rules, double launch_gap_ns);

// What a run of the baseline took: its own work and launches, without the waits it was built with.
struct BareTimes {
  std::vector<double> op_ns;
  std::vector<double> gap_ns;  // before the operator; of the first, across the step's boundary
  double launch_gap_ns = 0;    // between two nodes
};

// Of one or more runs of the graph with `waits`: medians.
BareTimes bare_times(const StepProgram& program, const GraphRules& rules,
                     const std::vector<GpuRun>& runs, const StepWaits& waits);

// An operator waits for what its recorded length exceeds its work; a launch for what the recorded
// gap exceeds its own. Launches slower than recorded are taken off the waits that follow, so that
// the step keeps its length. What communicates is never lengthened.
StepWaits waits_for(const StepProgram& program, const GraphRules& rules, const BareTimes& bare);

}  // namespace preserve
