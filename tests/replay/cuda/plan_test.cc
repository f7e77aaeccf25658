// SPDX-License-Identifier: Apache-2.0
// What the CUDA device decides before it needs a GPU: tables, the nodes of a step and whose times
// they tell, which SMs belong together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "common/error.h"
#include "replay/cuda/sm_split.h"
#include "replay/cuda/step/plan.h"
#include "replay/cuda/step/range_table.h"
#include "tests/support/gpu_nodes.h"

namespace preserve::cuda {
namespace {

using test::node_of;
using testing::ElementsAre;

struct Table {
  RangeTable head{};
  std::vector<DeviceRange> entries;  // the last one too
};

Table table_at(const DeviceImage& image, size_t offset) {
  Table table;
  std::memcpy(&table.head, &image.bytes()[offset], sizeof(table.head));
  table.entries.resize(table.head.count + 1);
  std::memcpy(table.entries.data(), &image.bytes()[offset + sizeof(table.head)],
              table.entries.size() * sizeof(DeviceRange));
  return table;
}

TEST(CudaTable, KeepsTheOrderAndCountsUnits) {
  DeviceImage image;
  image.add(5, 1);
  const std::vector<GpuRange> ranges{{0x5000, 160}, {0x1000, 64}, {0x2000, 0}, {0x3000, 16}};
  const size_t offset = image.add_table(ranges, 64, false);
  EXPECT_EQ(offset % 16, 0U);
  const Table table = table_at(image, offset);
  ASSERT_EQ(table.head.count, 3U);  // what is empty takes no place
  EXPECT_EQ(table.head.units, 5U);
  EXPECT_EQ(table.entries[0].address, 0x5000U);
  EXPECT_EQ(table.entries[0].bytes, 160U);
  EXPECT_EQ(table.entries[1].first_unit, 3U);
  EXPECT_EQ(table.entries[2].address, 0x3000U);
  EXPECT_EQ(table.entries[2].first_unit, 4U);
  EXPECT_EQ(table.entries[3].first_unit, 5U);  // where a search stops
}

TEST(CudaTable, WithoutRangesThereIsNothingToDo) {
  DeviceImage image;
  const Table table = table_at(image, image.add_table({}, 64, false));
  EXPECT_EQ(table.head.count, 0U);
  EXPECT_EQ(table.head.units, 0U);
}

TEST(CudaTable, LinesAreWhole) {
  DeviceImage image;
  const std::vector<GpuRange> ranges{{0x1070, 32}, {0x2000, 128}};
  const Table table = table_at(image, image.add_table(ranges, kLineUnitBytes, true));
  EXPECT_EQ(table.entries[0].address, 0x1000U);
  EXPECT_EQ(table.entries[0].bytes, 256U);  // across a border
  EXPECT_EQ(table.entries[1].bytes, 128U);
}

TEST(CudaTable, RefusesWhatIsNotAligned) {
  DeviceImage image;
  EXPECT_THROW(image.add_table(std::vector<GpuRange>{{8, 16}}, 64, false), Error);
  EXPECT_THROW(image.add_table(std::vector<GpuRange>{{16, 24}}, 64, false), Error);
  EXPECT_THROW(image.add_table(std::vector<GpuRange>{{16, -16}}, 64, false), Error);
}

RC_GTEST_PROP(CudaTable, UnitsCoverEveryByteOnceInOrder, ()) {
  const auto sizes = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 40));
  const auto unit_bytes = static_cast<uint64_t>(*rc::gen::inRange(1, 20)) * 16;
  std::vector<GpuRange> ranges;
  GpuAddress address = 4096;
  for (const int size : sizes) {
    ranges.push_back({address, size * 16});
    address += 4096;
  }
  DeviceImage image;
  const Table table = table_at(image, image.add_table(ranges, unit_bytes, false));
  // As the kernels do: the entry of a unit is found by going on from that of the unit before.
  size_t entry = 0;
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (uint64_t unit = 0; unit < table.head.units; ++unit) {
    while (unit >= table.entries[entry + 1].first_unit) ++entry;
    const DeviceRange& range = table.entries[entry];
    const uint64_t offset = (unit - range.first_unit) * unit_bytes;
    RC_ASSERT(offset < range.bytes);
    pieces.emplace_back(range.address + offset, std::min(unit_bytes, range.bytes - offset));
  }
  size_t piece = 0;
  for (const GpuRange& range : ranges) {
    uint64_t at = range.address;
    while (at < range.address + static_cast<uint64_t>(range.bytes)) {
      RC_ASSERT(piece < pieces.size());
      RC_ASSERT(pieces[piece].first == at);
      at += pieces[piece++].second;
    }
    RC_ASSERT(at == range.address + static_cast<uint64_t>(range.bytes));
  }
  RC_ASSERT(piece == pieces.size());
}

GpuNode read_of(int op, std::vector<int> after = {}) {
  return node_of(GpuNodeKind::read, op, std::move(after));
}

int stamps_in(const StepPlan& plan) {
  return static_cast<int>(
      std::count_if(plan.nodes.begin(), plan.nodes.end(),
                    [](const StepNode& node) { return node.role == StepRole::stamp; }));
}

GpuRun run_of(const GpuGraph& graph, const std::vector<StampMeans>& means) {
  GpuRun run;
  fill_operator_times(graph, plan_step(graph), means, run);
  return run;
}

TEST(CudaStep, CollectiveBetweenKernelsNeedsNoStamp) {
  const GpuGraph graph{
      .nodes = {read_of(0), node_of(GpuNodeKind::collective, 1, {0}), read_of(2, {1})}, .ops = 3};
  const StepPlan plan = plan_step(graph);
  EXPECT_EQ(stamps_in(plan), 0);
  ASSERT_EQ(plan.nodes.size(), 4U);
  EXPECT_THAT(plan.nodes[3].after, ElementsAre(2));
  const GpuRun run = run_of(graph, {{0, 100}, {130, 200}});
  EXPECT_THAT(run.op_start_ns, ElementsAre(0, 100, 130));
  EXPECT_THAT(run.op_ns, ElementsAre(100, 30, 70));
}

TEST(CudaStep, NeighbourThatWaitsBeginsBeforeItStarts) {
  GpuGraph graph{.nodes = {read_of(0), node_of(GpuNodeKind::gemm, 1, {0}), read_of(2, {1})},
                 .ops = 3};
  graph.nodes[2].wait_before_ns = 50;
  EXPECT_THAT(run_of(graph, {{0, 100}, {180, 200}}).op_ns, ElementsAre(100, 30, 20));
}

TEST(CudaStep, StampsWhereLibrariesFollowEachOther) {
  const GpuGraph graph{
      .nodes = {node_of(GpuNodeKind::gemm, 0), node_of(GpuNodeKind::collective, 1, {0}),
                node_of(GpuNodeKind::gemm, 2, {1})},
      .ops = 3};
  EXPECT_EQ(stamps_in(plan_step(graph)), 4);  // before each, and after the last
  EXPECT_THAT(run_of(graph, {{0, 0}, {10, 10}, {30, 30}, {60, 60}}).op_ns, ElementsAre(10, 20, 30));
}

TEST(CudaStep, NodeThatWaitsForMoreDoesNotTellTheEnd) {
  // A collective during a long kernel; what follows waits for both.
  const GpuGraph graph{.nodes = {read_of(0), node_of(GpuNodeKind::collective, 1, {0}),
                                 read_of(2, {0}), read_of(3, {1, 2})},
                       .ops = 4};
  EXPECT_EQ(stamps_in(plan_step(graph)), 1);
  EXPECT_EQ(run_of(graph, {{0, 10}, {11, 90}, {95, 120}, {30, 30}}).op_ns[1], 20);
}

TEST(CudaStep, PrefetchIsNotTimedAndTheStepWaitsForIt) {
  GpuGraph graph{.nodes = {read_of(0), node_of(GpuNodeKind::stand_in, 1, {0}),
                           node_of(GpuNodeKind::prefetch, -1, {1}), read_of(2, {1})},
                 .ops = 3};
  graph.nodes[2].with_start_of = true;
  const StepPlan plan = plan_step(graph);
  EXPECT_EQ(plan.slots, 3);
  EXPECT_EQ(plan.nodes[2].slot, -1);
  EXPECT_TRUE(plan.nodes[2].with_start_of);
  EXPECT_THAT(plan.nodes.back().after, ElementsAre(2, 3));
}

TEST(CudaStep, WhoseEndNobodyWaitsForIsWaitedForByTheStep) {
  GpuGraph graph{
      .nodes = {node_of(GpuNodeKind::stand_in, 0), node_of(GpuNodeKind::prefetch, -1, {0})},
      .ops = 1};
  graph.nodes[1].with_start_of = true;
  EXPECT_THAT(plan_step(graph).nodes.back().after, ElementsAre(0, 1));
}

TEST(CudaStep, OperatorOfSeveralNodesLastsFromTheFirstToTheLast) {
  const GpuGraph graph{.nodes = {read_of(0), read_of(0, {0}), read_of(1, {1})}, .ops = 3};
  const GpuRun run = run_of(graph, {{5, 10}, {12, 20}, {21, 30}});
  EXPECT_THAT(run.op_start_ns, ElementsAre(5, 21, 0));
  EXPECT_THAT(run.op_ns, ElementsAre(15, 9, 0));
}

RC_GTEST_PROP(CudaStep, EveryNodeIsPlacedAfterWhatItWaitsFor, ()) {
  GpuGraph graph;
  const int count = *rc::gen::inRange(1, 20);
  for (int i = 0; i < count; ++i) {
    GpuNode node = node_of(static_cast<GpuNodeKind>(*rc::gen::inRange(0, 6)), -1);
    for (int before = 0; before < i; ++before) {
      if (*rc::gen::inRange(0, 4) == 0) node.after.push_back(before);
    }
    node.with_start_of = node.after.size() == 1 && *rc::gen::arbitrary<bool>();
    graph.nodes.push_back(node);
  }
  const StepPlan plan = plan_step(graph);
  std::vector<int> seen(graph.nodes.size());
  std::vector<bool> has_successor(plan.nodes.size());
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    const StepNode& step = plan.nodes[i];
    if (step.node >= 0) ++seen[static_cast<size_t>(step.node)];
    for (const int before : step.after) {
      RC_ASSERT(before >= 0);
      RC_ASSERT(static_cast<size_t>(before) < i);
      if (!step.with_start_of) has_successor[static_cast<size_t>(before)] = true;
    }
  }
  RC_ASSERT(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
  RC_ASSERT(plan.nodes.back().role == StepRole::closing);
  // The step ends only when everything has.
  has_successor.back() = true;
  RC_ASSERT(std::all_of(has_successor.begin(), has_successor.end(), [](bool has) { return has; }));
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const bool timed = graph.nodes[i].kind != GpuNodeKind::prefetch;
    RC_ASSERT(plan.spans[i].from.empty() != timed);
    RC_ASSERT(plan.spans[i].to.empty() != timed);
  }
}

TEST(CudaStep, ScratchIsSharedOnlyInTurn) {
  const auto gemm = [](std::vector<int> after) {
    return node_of(GpuNodeKind::gemm, -1, std::move(after));
  };
  const GpuGraph graph{.nodes = {gemm({}), read_of(0, {0}), gemm({1}), gemm({0}), gemm({2, 3})}};
  EXPECT_THAT(share_scratch(graph), ElementsAre(0, -1, 0, 1, 0));
}

TEST(CudaStep, BeginningWithAnotherIsNotWaitingForIt) {
  GpuGraph graph{.nodes = {node_of(GpuNodeKind::gemm, -1), read_of(0, {0}),
                           node_of(GpuNodeKind::gemm, -1, {1})}};
  graph.nodes[1].with_start_of = true;
  EXPECT_THAT(share_scratch(graph), ElementsAre(0, -1, 1));
}

std::vector<double> two_groups(size_t near, size_t far, double ratio, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0, 4);
  std::vector<double> latencies;
  for (size_t i = 0; i < near + far; ++i) {
    const double mean = i % 2 == 0 && i / 2 < near ? 260 : 260 * ratio;
    latencies.push_back(mean + noise(random));
  }
  return latencies;
}

TEST(SmSplit, TwoGroupsAreFound) {
  const std::vector<double> near_first{250, 480, 255, 490, 245, 470, 260, 485};
  const std::vector<double> far_first{480, 250, 490, 255, 470, 245, 485, 260};
  for (const std::vector<double>& latencies : {near_first, far_first}) {
    const std::optional<SmSplit> split = split_sms(latencies);
    ASSERT_TRUE(split);
    EXPECT_THAT(split->halves, ElementsAre(1, 2, 1, 2, 1, 2, 1, 2));  // SM 0 is in the first
    EXPECT_NEAR(split->ratio, 481.25 / 252.5, 1e-9);
  }
}

TEST(SmSplit, GroupsThatAreCloseAreOne) {
  EXPECT_FALSE(split_sms(two_groups(66, 66, 1.10, 1)));
  EXPECT_TRUE(split_sms(two_groups(66, 66, 1.30, 1)));
}

TEST(SmSplit, NothingToSplit) {
  std::vector<double> slope(132), outliers(132, 250);
  for (size_t i = 0; i < slope.size(); ++i) slope[i] = 200 + 2.0 * static_cast<double>(i);
  outliers[7] = outliers[90] = 600;
  EXPECT_FALSE(split_sms(slope)) << "no step";
  EXPECT_FALSE(split_sms(outliers)) << "too few for a half";
  EXPECT_FALSE(split_sms({}));
  EXPECT_FALSE(split_sms(std::vector<double>{1, 2}));
  EXPECT_FALSE(split_sms(std::vector<double>(132, 250)));
  EXPECT_FALSE(split_sms(std::vector<double>(132, 0)));
}

RC_GTEST_PROP(SmSplit, LabelsFollowTheSmsWhateverTheirOrder, ()) {
  const auto near = static_cast<size_t>(*rc::gen::inRange(20, 60));
  const auto far = static_cast<size_t>(*rc::gen::inRange(20, 60));
  std::vector<double> latencies;
  for (size_t i = 0; i < near; ++i) latencies.push_back(*rc::gen::inRange(240, 270));
  for (size_t i = 0; i < far; ++i) latencies.push_back(*rc::gen::inRange(440, 480));
  std::mt19937_64 random(*rc::gen::arbitrary<uint64_t>());
  std::shuffle(latencies.begin(), latencies.end(), random);
  const std::optional<SmSplit> split = split_sms(latencies);
  RC_ASSERT(split);
  for (size_t i = 0; i < latencies.size(); ++i) {
    RC_ASSERT((split->halves[i] == split->halves[0]) ==
              ((latencies[i] < 300) == (latencies[0] < 300)));
  }
}

}  // namespace
}  // namespace preserve::cuda
