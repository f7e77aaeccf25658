// SPDX-License-Identifier: Apache-2.0
// The paper's Algorithm 1 and the operator graph that it walks.
#include "planner/search/bfs.h"

#include <gtest/gtest.h>

#include <boost/graph/topological_sort.hpp>
#include <numeric>

#include "planner/problem/graph.h"
#include "planner/search/decompose.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

using test::gpu_device;
using test::synthetic_step;

StepOp& add_operator(FoldedStep& step, int32_t stream, double start_ns, double dur_ns) {
  StepOp& op = step.ops.emplace_back();
  op.ordinal = static_cast<int32_t>(step.ops.size()) - 1;
  op.stream = stream;
  op.start_ns = start_ns;
  op.dur_ns = dur_ns;
  return op;
}

TEST(Bfs, TakesWhatLiesBetweenTwoCollectives) {
  const FoldedStep step = synthetic_step();
  DeviceModel device = gpu_device();
  device.cache_bytes = 1 << 30;
  const auto windows = plan_bfs(step, build_problem(step, device, {.budget_bytes = 1 << 29}));
  ASSERT_EQ(windows.size(), 8u);
  // After the attention's allreduce: the MLP's weights (a norm's 8 KiB too), up to the next one.
  std::vector<std::string> tensors;
  for (const PlannedPrefetch& prefetch : windows[0].prefetches) tensors.push_back(prefetch.tensor);
  EXPECT_EQ(tensors, (std::vector<std::string>{"layers.0.mlp_norm.weight",
                                               "layers.0.gate_up.weight", "layers.0.down.weight"}));
  // The last one prefetches for the first layer of the next step.
  ASSERT_FALSE(windows[7].prefetches.empty());
  EXPECT_EQ(windows[7].prefetches[0].tensor, "layers.0.attn_norm.weight");
  EXPECT_TRUE(windows[7].prefetches[0].next_step);
}

TEST(Bfs, StopsAtTheFirstTensorThatDoesNotFit) {
  const FoldedStep step = synthetic_step();
  // gate_up (12 MiB) does not fit, down (6 MiB) does.
  const PlanProblem problem = build_problem(step, gpu_device(), {.budget_bytes = 7 << 20});
  const PlannedWindow window = plan_bfs(step, problem)[0];
  ASSERT_EQ(window.prefetches.size(), 1u);
  EXPECT_EQ(window.prefetches[0].tensor, "layers.0.mlp_norm.weight");
  EXPECT_EQ(window.binds, "cache");
}

// Reads of another stream lie beyond the next windows: what they hold counts there too.
TEST(Bfs, HoldsNoMoreThanTheBudgetAcrossStreams) {
  FoldedStep step;
  step.streams = {1, 2};
  step.tensors = {{.name = "a.weight", .role = TensorRole::weight, .bytes = 64 * kBlockBytes},
                  {.name = "b.weight", .role = TensorRole::weight, .bytes = 64 * kBlockBytes}};
  const auto add = [&](OpKind kind, int32_t stream, double start_ns, int32_t tensor) {
    StepOp& op = add_operator(step, stream, start_ns, 90'000);
    op.kind = kind;
    if (tensor >= 0) op.accesses = {{.tensor = tensor, .bytes = 64 * kBlockBytes, .source = {}}};
  };
  add(OpKind::collective, 0, 0, -1);        // fetches for 1 on its stream ...
  add(OpKind::collective, 0, 100'000, -1);  // fetches for 3
  add(OpKind::compute, 1, 200'000, 0);      // ... and for 2, beyond the second collective
  add(OpKind::compute, 0, 300'000, 1);
  step.wall_ns = 400'000;
  DeviceModel device = gpu_device();
  device.cache_budget_bytes = 100 * kBlockBytes;
  const auto windows =
      plan_bfs(step, build_problem(step, device, {.budget_bytes = 100 * kBlockBytes}));
  EXPECT_GT(peak_bytes(holdings_of(windows), step.ops.size()), 0);
  EXPECT_LE(peak_bytes(holdings_of(windows), step.ops.size()), 100 * kBlockBytes);
}

TEST(Graph, FollowsStreamsAndData) {
  FoldedStep step = synthetic_step();
  const OperatorGraph graph = operator_graph(step);
  // Recorded on one stream, so the only topological order is that of the ordinals.
  OperatorGraph within_step = graph;
  boost::clear_out_edges(step.ops.size(), within_step);
  std::vector<size_t> reversed;
  boost::topological_sort(within_step, std::back_inserter(reversed));
  std::vector<size_t> ordinals(step.ops.size() + 1);
  std::iota(ordinals.begin(), ordinals.end(), 0);
  EXPECT_EQ(std::vector<size_t>(reversed.rbegin(), reversed.rend()), ordinals);
  // Up to the boundary, around the end of the step, never itself.
  std::vector<uint8_t> boundary(step.ops.size(), 0);
  boundary[2] = 1;
  const auto last = static_cast<int32_t>(step.ops.size()) - 1;
  EXPECT_EQ(operators_before_boundary(graph, last, boundary), (std::vector<int32_t>{0, 1}));
}

TEST(Graph, ParallelStreamsAreBranches) {
  FoldedStep step;
  step.streams = {1, 2};
  add_operator(step, 0, 0, 10);   // 0
  add_operator(step, 0, 10, 50);  // 1: after 0
  add_operator(step, 1, 12, 10);  // 2: after 0, during 1
  add_operator(step, 0, 70, 10);  // 3: after 1
  const OperatorGraph graph = operator_graph(step);
  const auto edge = [&](size_t from, size_t to) { return boost::edge(from, to, graph).second; };
  EXPECT_TRUE(edge(0, 1) && edge(0, 2) && edge(1, 3));
  EXPECT_TRUE(edge(2, 4) && edge(3, 4) && edge(4, 0)) << "over the end of the step";
  EXPECT_EQ(boost::num_edges(graph), 6u);
  EXPECT_EQ(operators_before_boundary(graph, 0, {0, 1, 0, 0}), (std::vector<int32_t>{2}));
}

}  // namespace
}  // namespace preserve
