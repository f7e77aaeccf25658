// SPDX-License-Identifier: Apache-2.0
// The paper's Algorithm 1 and the operator graph that it walks.
#include "planner/search/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "planner/problem/graph.h"
#include "planner/search/decompose.h"
#include "tests/planner/synthetic_step.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

using test::synthetic_device;
using test::synthetic_step;

TEST(Bfs, TakesWhatLiesBetweenTwoCollectives) {
  const FoldedStep step = synthetic_step();
  DeviceModel device = synthetic_device();
  device.cache_bytes = 1 << 30;
  ProblemOptions wide;
  wide.budget_bytes = 1 << 29;
  const auto windows = plan_bfs(step, build_problem(step, device, wide), {});
  ASSERT_EQ(windows.size(), 8u);
  // Behind the attention's allreduce: the MLP's weights (a norm's 8 KiB too), up to the next one.
  std::vector<std::string> tensors;
  for (const PlannedPrefetch& prefetch : windows[0].prefetches) tensors.push_back(prefetch.tensor);
  EXPECT_EQ(tensors, (std::vector<std::string>{"layers.0.mlp_norm.weight",
                                               "layers.0.gate_up.weight", "layers.0.down.weight"}));
  // The last one prefetches for the first layer of the next step.
  ASSERT_FALSE(windows[7].prefetches.empty());
  EXPECT_EQ(windows[7].prefetches[0].tensor, "layers.0.attn_norm.weight");
  EXPECT_TRUE(windows[7].prefetches[0].next_step);
}

TEST(Bfs, StopsOrSkipsAtTheBudget) {
  const FoldedStep step = synthetic_step();
  ProblemOptions options;
  options.budget_bytes = 7 << 20;  // gate_up (12 MiB) does not fit, down (6 MiB) does
  const PlanProblem problem = build_problem(step, synthetic_device(), options);
  BfsOptions bfs;
  EXPECT_EQ(plan_bfs(step, problem, bfs)[0].prefetches.size(), 1u);
  bfs.full = BfsOptions::Full::skip;
  const auto skipped = plan_bfs(step, problem, bfs);
  ASSERT_EQ(skipped[0].prefetches.size(), 2u);
  EXPECT_EQ(skipped[0].prefetches[1].tensor, "layers.0.down.weight");
  bfs.scope = BfsOptions::Scope::running;  // the first window uses most of it up for good
  int64_t total = 0;
  for (const PlannedWindow& window : plan_bfs(step, problem, bfs)) total += window.used_bytes;
  EXPECT_LT(total, *options.budget_bytes);
}

// Reads of another stream lie beyond the next windows: what they hold counts there too.
TEST(Bfs, HoldsNoMoreThanTheBudgetAcrossStreams) {
  FoldedStep step;
  step.streams = {1, 2};
  step.tensors = {{.name = "a.weight", .role = TensorRole::weight, .bytes = 64 * kBlockBytes},
                  {.name = "b.weight", .role = TensorRole::weight, .bytes = 64 * kBlockBytes}};
  const auto add = [&](OpKind kind, int32_t stream, double start_ns, int32_t tensor) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step.ops.size());
    op.kind = kind;
    op.stream = stream;
    op.start_ns = start_ns;
    op.dur_ns = 90'000;
    if (tensor >= 0) {
      op.accesses.emplace_back();
      op.accesses.back().tensor = tensor;
      op.accesses.back().bytes = 64 * kBlockBytes;
    }
    step.ops.push_back(op);
  };
  add(OpKind::collective, 0, 0, -1);        // fetches for 1 on its stream ...
  add(OpKind::collective, 0, 100'000, -1);  // fetches for 3
  add(OpKind::compute, 1, 200'000, 0);      // ... and for 2, beyond the second collective
  add(OpKind::compute, 0, 300'000, 1);
  step.wall_ns = 400'000;
  DeviceModel device = synthetic_device();
  ProblemOptions options;
  options.budget_bytes = device.cache_budget_bytes = 100 * kBlockBytes;
  const auto windows = plan_bfs(step, build_problem(step, device, options), {});
  EXPECT_GT(peak_bytes(holdings_of(windows), step.ops.size()), 0);
  EXPECT_LE(peak_bytes(holdings_of(windows), step.ops.size()), *options.budget_bytes);
}

TEST(Graph, FollowsStreamsAndData) {
  FoldedStep step = synthetic_step();
  const OperatorGraph graph(step);
  const std::vector<int32_t> order = graph.topological_order();
  ASSERT_EQ(order.size(), step.ops.size());
  std::vector<size_t> place(order.size());
  for (size_t i = 0; i < order.size(); ++i) place[static_cast<size_t>(order[i])] = i;
  for (size_t i = 1; i < place.size(); ++i) EXPECT_LT(place[i - 1], place[i]);
  // Up to the boundary, around the end of the step, never itself.
  std::vector<uint8_t> boundary(step.ops.size(), 0);
  boundary[2] = 1;
  const auto last = static_cast<int32_t>(step.ops.size()) - 1;
  EXPECT_EQ(graph.breadth_first(last, boundary), (std::vector<int32_t>{0, 1}));
}

TEST(Graph, ParallelStreamsAreBranches) {
  FoldedStep step;
  step.streams = {1, 2};
  const auto add = [&](int32_t stream, double start, double dur) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step.ops.size());
    op.stream = stream;
    op.start_ns = start;
    op.dur_ns = dur;
    step.ops.push_back(op);
  };
  add(0, 0, 10);   // 0
  add(0, 10, 50);  // 1: behind 0
  add(1, 12, 10);  // 2: behind 0, beside 1
  add(0, 70, 10);  // 3: behind 1, joins both
  const OperatorGraph graph(step);
  EXPECT_EQ(graph.edge_count(), 3u);
  EXPECT_EQ(graph.breadth_first(0, {0, 1, 0, 0}), (std::vector<int32_t>{2}));
}

}  // namespace
}  // namespace preserve
