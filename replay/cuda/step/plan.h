// SPDX-License-Identifier: Apache-2.0
// What is put on the device for a graph: its nodes, a stamp where a library's node has no neighbour
// that tells its time, and the kernel that closes the step. Pure: no CUDA.
#pragma once

#include <span>
#include <vector>

#include "replay/gpu/device.h"

namespace preserve::cuda {

// What a library does in kernels of its own.
inline bool is_library(const GpuNode& node) {
  return node.kind == GpuNodeKind::gemm || node.kind == GpuNodeKind::collective;
}

enum class StepRole { node, stamp, closing };

struct StepNode {
  StepRole role = StepRole::node;
  int node = -1;                // index in GpuGraph::nodes, of role node
  int slot = -1;                // StampSlot that it fills; -1: none
  std::vector<int> after = {};  // indexes in StepPlan::nodes, smaller than its own
  bool with_start_of = false;
  int stream = 0;
};

// A moment that a slot knows: its first begin (before it waited), start or last end.
enum class Moment { begin, start, end };
struct StampPoint {
  int slot = 0;
  Moment moment = Moment::start;
};
// When a node ran: from the latest of `from` to the earliest of `to`.
struct NodeSpan {
  std::vector<StampPoint> from, to;
};

struct StepPlan {
  std::vector<StepNode> nodes;  // the closing kernel is the last
  int slots = 0;
  std::vector<int64_t> wait_before_ns;  // by slot
  std::vector<NodeSpan> spans;          // by GpuGraph node; empty: not timed (prefetches)
};

StepPlan plan_step(const GpuGraph& graph);

// Means of a slot over the steps of a run, since the beginning of the step's first timed node.
struct StampMeans {
  double first_ns = 0, last_ns = 0;
};
// Fills op_ns and op_start_ns. From mean times: where several nodes of one slot take turns in being
// the last, that is less than the mean of the last. An operator without timed nodes gets 0.
void fill_operator_times(const GpuGraph& graph, const StepPlan& plan,
                         std::span<const StampMeans> means, GpuRun& run);

// By node: which piece of scratch memory a gemm works in, -1 for all others. Two of them share one
// only if the second waits for the first.
std::vector<int> share_scratch(const GpuGraph& graph);

}  // namespace preserve::cuda
