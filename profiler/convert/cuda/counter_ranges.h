// SPDX-License-Identifier: Apache-2.0
// Recorded hardware counters -> operators. A recording of counters has no activities: an operator
// is made of each launch that was measured. Its time is that of the launching call, which waited
// for the kernel with everything that measuring costs; the kernels of a graph share it in equal
// parts. It says in which order they ran, and no more.
//
// The kernels of a graph are told apart when the graph was captured from one stream and has as many
// kernel nodes as there are ranges: then the order of the capture is the order of the ranges. Else
// the launch is one operator with the sums.
#pragma once

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

struct CounterSummary {
  int64_t measured = 0;      // ranges that CUPTI decoded
  int64_t given = 0;         // of these: in a counter of an operator
  int64_t graphs = 0;        // measured launches of graphs
  int64_t whole_graphs = 0;  // of these: known as a sum only
};

// Adds the activities to `run`, before join().
CounterSummary add_counter_activities(Run& run);
// After join(): the activities of graph nodes get the name of what was captured.
void name_counter_activities(Run& run);

}  // namespace preserve::cuda
