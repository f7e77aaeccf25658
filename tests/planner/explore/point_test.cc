// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "planner/explore/cell/fused.h"
#include "planner/explore/cell/hardware.h"
#include "planner/explore/cell/layers.h"
#include "planner/workload/workload.h"
#include "tests/planner/explore/points.h"

namespace preserve {
namespace {

using test::example_device;
using test::PaperPoint;
using testing::HasSubstr;

double relative(double a, double b) {
  return std::fabs(a / b - 1);
}

// --- layers --------------------------------------------------------------------------------------

LayerShape layer(int64_t window) {
  LayerShape shape;
  shape.attention = AttentionShape{.heads = 8, .kv_heads = 8, .head_dim = 64, .window = window};
  return shape;
}

TEST(LayerCycle, FindsThePeriodAfterTheHead) {
  EXPECT_EQ(find_cycle(std::vector<LayerShape>(12, layer(0))).period, 1);
  std::vector<LayerShape> layers{layer(7), layer(7)};
  for (int i = 0; i < 12; ++i) layers.push_back(layer(i % 3 == 2 ? 0 : 512));
  const LayerCycle cycle = find_cycle(layers);
  EXPECT_EQ(cycle.head, 2);
  EXPECT_EQ(cycle.period, 3);
}

TEST(LayerCycle, TakesUnlikeLayersAsOnePeriod) {
  std::vector<LayerShape> layers;
  layers.reserve(5);
  for (int i = 0; i < 5; ++i) layers.push_back(layer(100 + i));
  const LayerCycle cycle = find_cycle(layers);
  EXPECT_EQ(cycle.head + cycle.period, 5);
  EXPECT_EQ(keep_layers(5, cycle, 1).left_out, 0);
}

TEST(LayerCycle, LeavesOutWholePeriods) {
  const KeptLayers kept = keep_layers(62, {.head = 2, .period = 6}, 8);
  EXPECT_EQ(kept.left_out % 6, 0);
  EXPECT_EQ(kept.kept + kept.left_out, 62);
  EXPECT_GE(kept.kept, 2 + 4 * 6);
  EXPECT_EQ(keep_layers(8, {.head = 0, .period = 1}, 8).left_out, 0);
}

// --- one cell ------------------------------------------------------------------------------------

ExploreCell done_cell(const ExplorePoint& point) {
  ExploreCell cell = evaluate(point);
  EXPECT_TRUE(cell.done()) << cell.reason;
  return cell;
}

// A few layers stand for all: within 0.5 %, which is what the choice between almost equal plans
// moves.
TEST(ExplorePoint, OfAFewLayersIsThatOfAll) {
  for (const char* model : {"llama3-8b", "llama3-70b"}) {
    for (const int64_t ranks : {1, 2, 8}) {
      for (const int64_t cache : {int64_t{16} << 20, int64_t{192'000'000}}) {
        PaperPoint paper(model);
        paper.point.ranks = ranks;
        paper.point.cache_bytes = cache;
        paper.point.memory_bytes = int64_t{1} << 40;
        const ExploreCell few = evaluate(paper.point), all = evaluate(paper.point, 1000);
        ASSERT_TRUE(few.done() && all.done()) << few.reason << all.reason;
        EXPECT_EQ(few.rank_bytes, all.rank_bytes);
        EXPECT_LT(relative(few.baseline_step_ns, all.baseline_step_ns), 1e-9);
        EXPECT_LT(relative(few.fused_step_ns, all.fused_step_ns), 1e-9);
        EXPECT_LT(relative(few.all_hot_step_ns, all.all_hot_step_ns), 1e-4);
        EXPECT_LT(relative(few.bfs_step_ns, all.bfs_step_ns), 5e-3) << model << ' ' << ranks;
        EXPECT_LT(relative(few.flow_step_ns, all.flow_step_ns), 5e-3) << model << ' ' << ranks;
      }
    }
  }
}

TEST(ExplorePoint, HasTheBytesOfThePaper) {
  for (const test::PaperFootprint& expected : test::kPaperFootprints) {
    PaperPoint paper(expected.model);
    paper.point.ranks = 1;
    paper.point.batch = 8;
    paper.point.memory_bytes = int64_t{1} << 40;
    const ExploreCell cell = done_cell(paper.point);
    EXPECT_NEAR(static_cast<double>(cell.attention_weight_bytes) / 1e6, expected.attention_weights,
                0.05);
    EXPECT_NEAR(static_cast<double>(cell.kv_bytes) / 1e6, expected.kv, 0.06);
    EXPECT_NEAR(static_cast<double>(cell.mlp_bytes) / 1e6, expected.mlp, 0.06);
  }
}

TEST(ExplorePoint, SplitsTheBytesAmongTheDevices) {
  PaperPoint paper("llama3-70b");
  paper.point.batch = 8;
  paper.point.ranks = 8;
  const ExploreCell cell = evaluate(paper.point);
  EXPECT_NEAR(static_cast<double>(cell.attention_weight_bytes + cell.kv_bytes) / 1e6, 52.4, 0.1);
  EXPECT_NEAR(static_cast<double>(cell.mlp_bytes) / 1e6, 88.1, 0.1);
}

TEST(ExplorePoint, SaysWhyThereIsNoNumber) {
  const struct {
    const char *model, *status, *reason;
    std::function<void(PaperPoint&)> change;
  } all[] = {
      {"llama3-70b", kExploreNotAvailable, "needs", [](PaperPoint& of) { of.point.ranks = 1; }},
      {"qwen2-7b", kExploreNotAvailable, "28 attention heads",
       [](PaperPoint& of) { of.point.ranks = 8; }},
      {"llama3-8b", kExploreFailed, "allreduce",
       [](PaperPoint& of) { of.point.allreduce_ns.reset(); }},
      {"llama3-8b", kExploreFailed, "llama3-8b on ascend-910b: the step never ends",
       [](PaperPoint& of) { of.device.memory_bandwidth_bytes_per_s = 1e-300; }}};
  for (const auto& [model, status, reason, change] : all) {
    PaperPoint paper(model);
    change(paper);
    const ExploreCell cell = evaluate(paper.point);
    EXPECT_EQ(cell.status, status) << reason;
    EXPECT_THAT(cell.reason, HasSubstr(reason));
    EXPECT_EQ(cell.baseline_step_ns, 0) << "what is written holds finite numbers alone";
    EXPECT_EQ(cell.flow_step_ns, 0) << reason;
    EXPECT_TRUE(std::string(reason) != "needs" || cell.rank_bytes > cell.memory_bytes);
  }
}

TEST(ExplorePoint, SearchesForBetterPlansWhenAskedTo) {
  const ModelConfig model = test::example_model("stories42m");
  const DeviceModel device = example_device("h100-sxm");
  ExplorePoint point{.model = &model, .device = &device, .ranks = 2, .batch = 4};
  const ExploreCell quick = evaluate(point);
  point.search = true;
  const ExploreCell searched = evaluate(point);
  ASSERT_TRUE(quick.done() && searched.done()) << quick.reason << searched.reason;
  EXPECT_EQ(searched.baseline_step_ns, quick.baseline_step_ns);
  EXPECT_LE(searched.flow_step_ns, quick.flow_step_ns * (1 + 1e-6));
  EXPECT_GE(searched.flow_step_ns, searched.all_hot_step_ns);
}

// --- what must hold in every cell ----------------------------------------------------------------

TEST(ExploreProperty, NoPlanBeatsAllHotAndFlowIsNeverBehind) {
  double most = 1, most_ahead = 1;  // of flow over doing nothing and over bfs
  for (const char* model : {"llama3-8b", "qwen2-7b"}) {
    for (const int64_t batch : {1, 16, 64}) {
      for (const int64_t context : {2048, 32768}) {
        for (const int64_t allreduce_ns : {5'000, 80'000}) {
          PaperPoint paper(model);
          paper.point.batch = batch;
          paper.point.context = context;
          paper.point.allreduce_ns = allreduce_ns;
          const ExploreCell cell = done_cell(paper.point);
          EXPECT_LE(cell.all_hot_step_ns, cell.flow_step_ns * (1 + 1e-9));
          EXPECT_LE(cell.all_hot_step_ns, cell.bfs_step_ns * (1 + 1e-9));
          EXPECT_LE(cell.flow_step_ns, cell.bfs_step_ns);
          EXPECT_LE(cell.flow_step_ns, cell.baseline_step_ns);
          EXPECT_LE(cell.fused_step_ns, cell.baseline_step_ns);
          most = std::max(most, cell.baseline_step_ns / cell.flow_step_ns);
          most_ahead = std::max(most_ahead, cell.bfs_step_ns / cell.flow_step_ns);
        }
      }
    }
  }
  EXPECT_GT(most, 1.2) << "something was planned";
  EXPECT_GT(most_ahead, 1.02);
}

double flow_speedup(const ExploreCell& cell) {
  return cell.baseline_step_ns / cell.flow_step_ns;
}

// Up to what the choice between almost equal plans moves.
constexpr double kNoise = 0.005;

TEST(ExploreProperty, ABiggerCacheNeverHurts) {
  PaperPoint paper("llama3-8b");
  double before = 1;
  for (const int64_t mib : {4, 16, 64, 128, 256}) {
    paper.point.cache_bytes = mib << 20;
    const double here = flow_speedup(done_cell(paper.point));
    EXPECT_GE(here, before * (1 - kNoise)) << mib;
    before = here;
  }
  EXPECT_GT(before, 1.1);
}

TEST(ExploreProperty, TheGainFallsWithTheBatchOnceProductsAreComputeBound) {
  PaperPoint paper("llama3-8b");
  paper.point.context = 512;
  paper.point.memory_bytes = int64_t{1} << 40;
  std::vector<double> gains;
  double step_ns = 0;
  for (const int64_t batch : {256, 512, 1024, 2048}) {
    paper.point.batch = batch;
    const ExploreCell cell = done_cell(paper.point);
    EXPECT_GT(cell.baseline_step_ns, 1.4 * step_ns) << "arithmetic takes most of it, " << batch;
    step_ns = cell.baseline_step_ns;
    gains.push_back(flow_speedup(cell));
  }
  EXPECT_TRUE(std::is_sorted(gains.rbegin(), gains.rend())) << testing::PrintToString(gains);
  EXPECT_GT(gains.front(), gains.back() + 0.05);
}

TEST(ExploreProperty, TheGainRisesWithTheContextUntilTheKvCacheOutgrowsTheCache) {
  PaperPoint paper("llama3-8b");
  paper.point.memory_bytes = int64_t{1} << 40;
  std::vector<double> gains;
  std::vector<int64_t> kv_bytes;  // of one layer
  for (const int64_t context : {1024, 4096, 16384, 65536, 262144, 1048576}) {
    paper.point.context = context;
    const ExploreCell cell = done_cell(paper.point);
    gains.push_back(flow_speedup(cell));
    kv_bytes.push_back(cell.kv_bytes);
  }
  const auto most = std::max_element(gains.begin(), gains.end());
  EXPECT_TRUE(std::is_sorted(gains.begin(), most + 1)) << testing::PrintToString(gains);
  EXPECT_TRUE(std::is_sorted(most, gains.end(), std::greater<>())) << testing::PrintToString(gains);
  // The largest of those whose KV fits is the best.
  ASSERT_GT(gains.end() - most, 1);
  const auto best = static_cast<size_t>(most - gains.begin());
  EXPECT_LE(kv_bytes[best], paper.device.cache_bytes);
  EXPECT_GT(kv_bytes[best + 1], paper.device.cache_bytes);
  EXPECT_GT(*most, gains.front() + 0.05);
  EXPECT_GT(*most, gains.back() + 0.05);
}

// --- hardware ------------------------------------------------------------------------------------

TEST(ExploreHardware, KeepsTheShareOfTheCache) {
  const DeviceModel h100 = example_device("h100-sxm");
  const DeviceModel device = changed_device({.device = &h100, .cache_bytes = 2 * h100.cache_bytes});
  EXPECT_EQ(device.cache_bytes, 2 * h100.cache_bytes);
  EXPECT_NEAR(static_cast<double>(device.cache_budget_bytes),
              2 * static_cast<double>(h100.cache_budget_bytes), 2);
  ASSERT_FALSE(h100.survival.empty());
  for (size_t i = 0; i < h100.survival.size(); ++i) {
    const auto bytes = static_cast<double>(h100.survival[i].footprint_bytes);
    EXPECT_NEAR(survival_at(device, 2 * bytes), h100.survival[i].hit_fraction, 1e-6);
  }
}

TEST(ExploreHardware, TurnsAnotherBandwidthIntoRooflines) {
  const DeviceModel h100 = example_device("h100-sxm");
  const DeviceModel device = changed_device(
      {.device = &h100, .memory_bandwidth_bytes_per_s = h100.memory_bandwidth_bytes_per_s / 2});
  EXPECT_TRUE(device.operators.empty());
  EXPECT_DOUBLE_EQ(device.methods.front().bandwidth_bytes_per_s,
                   h100.methods.front().bandwidth_bytes_per_s / 2);
}

TEST(ExploreHardware, NetworksHaveLatencyAndBandwidth) {
  PaperPoint paper("llama3-8b");
  paper.point.allreduce_ns.reset();
  paper.point.network_latency_ns = 10'000;
  paper.point.network_bandwidth_bytes_per_s = 50e9;
  const ExploreCell cell = done_cell(paper.point);
  // Message: batch 4 x hidden 4096 x 2 bytes, three halves of it over 50 GB/s.
  EXPECT_NEAR(cell.allreduce_ns, 10'000 + 4 * 4096 * 2 * 1.5 / 50, 1);
}

TEST(ExploreFused, OverlapsTheLongerOfBothWithTheOther) {
  PaperPoint paper("llama3-8b");
  paper.point.batch = 1024;
  const WorkloadSpec spec{
      .model = paper.model, .ranks = 4, .batch = 1024, .context = 512, .allreduce_ns = 400'000};
  const FoldedStep step = generate_workload(spec, paper.device).step;
  const std::vector<double> saved_ns = fused_savings_ns(step, paper.device, spec.allreduce_ns);
  for (size_t i = 0; i < step.ops.size(); ++i) {
    if (saved_ns[i] == 0) continue;
    // At most the shorter of the two is hidden.
    EXPECT_LE(saved_ns[i], std::min(step.ops[i].dur_ns, step.ops[i - 1].dur_ns));
    EXPECT_EQ(step.ops[i].kind, OpKind::collective);
  }
  EXPECT_GT(*std::max_element(saved_ns.begin(), saved_ns.end()), 0);
}

}  // namespace
}  // namespace preserve
