// SPDX-License-Identifier: Apache-2.0
// Which call made an activity run, and which call said what it is. Second step of spool ->
// trace.db.
//
// Activity::launch is found by correlation id (gpu/launch_join.h). Activity::origin is the same
// call, except for nodes of CUDA graphs: there it is the call that was captured into the node,
// found through the node's number; clones (an executable graph is a clone) lead to their original.
// Node numbers are recycled too: what a number means is what it last meant before the activity.
#pragma once

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

struct JoinSummary {
  int64_t launched = 0;        // activities whose call is known
  int64_t graph_nodes = 0;     // activities with a node number
  int64_t resolved_nodes = 0;  // of these: the captured call is known
};

// Sorts the activities by stream and start (the order of rows in trace.db) and fills their links.
JoinSummary join(Run& run);

}  // namespace preserve::cuda
