// SPDX-License-Identifier: Apache-2.0
// Calibration, plan and replay on one simulated GPU: the measured gain is the predicted one.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "common/output_file.h"
#include "db/step/folded_step.h"
#include "db/trace_db.h"
#include "planner/search/plan.h"
#include "replay/gpu/replay.h"
#include "tests/replay/gpu/small_gpu.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::FakeGpu;
using test::kMiB;

class GpuFlowTest : public testing::Test {
 protected:
  GpuFlowTest() {
    properties_.facts.l2_bytes = kMiB;
    properties_.facts.persisting_l2_max_bytes = kMiB / 2;
    properties_.effective_l2_bytes = 3 * kMiB / 4;
    properties_.cold_bytes_per_s = 30e9;
    properties_.hot_bytes_per_s = 120e9;
    properties_.fork_ns = 800;
    spec_.layers = 3;
    spec_.qkv_bytes = 384 << 10;
    spec_.gate_up_bytes = 512 << 10;
    spec_.kv_bytes = 64 << 10;
    spec_.lm_head_bytes = kMiB;
    spec_.bandwidth_bytes_per_s = properties_.cold_bytes_per_s;
    spec_.op_latency_ns = 0;
    spec_.gap_ns = properties_.launch_gap_ns;
    spec_.allreduce_ns = 20'000;
  }

  DeviceModel calibrate() const {
    FakeGpu gpu(properties_);
    GpuCalibrateOptions options = test::few_rounds(gpu);
    options.least_rounds = options.most_rounds = 3;
    return device_from(measure_gpu(gpu, options));
  }

  Schedule plan_for(const DeviceModel& device) const {
    test::write_synthetic_trace(trace_, spec_);
    Schedule schedule = make_schedule(fold_step(TraceDb::open(trace_)), device, {}).schedule;
    schedule.trace_path = trace_.string();
    schedule.trace_sha256 = sha256_of_file(trace_);
    return schedule;
  }

  ReplayRecord replay(const Schedule& schedule) const {
    std::ofstream(directory_ / "schedule.json") << to_json(schedule);
    ReplayRequest request;
    request.trace = trace_;
    request.schedule = directory_ / "schedule.json";
    FakeGpu gpu(properties_);
    // Of the host: precision ends it, on whatever machine.
    const MeasureOptions options{.time_limit_ns = 60'000'000'000, .sample_ns = 1'000'000};
    return replay_on_gpu(LoneRank(), gpu, load_job(request, std::nullopt), request, {}, options,
                         [](const std::string&) {});
  }

  test::FakeGpuProperties properties_;
  test::SyntheticTrace spec_;
  test::TemporaryDirectory directory_;
  std::filesystem::path trace_ = directory_ / "trace.db";
};

// Of short collectives, after which prefetches go on, and of long ones.
TEST_F(GpuFlowTest, TheReplayGainsWhatTheCalibratedPlanPredicts) {
  const DeviceModel device = calibrate();
  for (const int64_t allreduce_ns : {3'000, 20'000}) {
    SCOPED_TRACE(allreduce_ns);
    spec_.allreduce_ns = allreduce_ns;
    const Schedule schedule = plan_for(device);
    ASSERT_EQ(schedule.plan.verdict, PlanVerdict::prefetch);
    ASSERT_GT(schedule.plan.speedup, allreduce_ns > 10'000 ? 1.1 : 1.02);
    const ReplayRecord record = replay(schedule);
    const std::vector<ArmResult>& arms = record.result.arms;
    EXPECT_NEAR(record.result.fidelity.value(), 1, 0.01);
    EXPECT_EQ(record.result.verdict, Verdict::fast);
    EXPECT_NEAR(arms[1].speedup->estimate, schedule.plan.speedup, 0.004);
    const auto predicted_ns =
        static_cast<double>(schedule.plan.baseline_step_ns - schedule.plan.prefetch_step_ns);
    // A plan uses its windows to the end, where short ones lose a part to what varies.
    EXPECT_GE(arms[0].step_ns->estimate - arms[1].step_ns->estimate, 0.91 * predicted_ns);
  }
}

// Attention that leaves the memory idle; calibration finds that prefetches do not slow it beyond
// what sharing the memory costs.
TEST_F(GpuFlowTest, WindowsBesideOperatorsAreReplayed) {
  spec_.op_latency_ns = 9'000;
  spec_.allreduce_ns = 3'000;
  const Schedule schedule = plan_for(calibrate());
  ASSERT_EQ(schedule.plan.verdict, PlanVerdict::prefetch);
  EXPECT_EQ(schedule.windows_mode, "idle");
  const FoldedStep step = fold_step(TraceDb::open(trace_));
  const bool beside = std::any_of(
      schedule.plan.windows.begin(), schedule.plan.windows.end(), [&](const PlannedWindow& window) {
        return window.used_bytes > 0 &&
               step.ops[static_cast<size_t>(window.ordinal)].kind == OpKind::compute;
      });
  EXPECT_TRUE(beside);
  EXPECT_EQ(replay(schedule).result.verdict, Verdict::fast);
}

// CUDA calls edges from the start of a kernel best effort: a plan is issued as it was calibrated.
TEST_F(GpuFlowTest, APlanNeedsNoEdgesFromTheStartOfAKernel) {
  properties_.takes_start_edges = false;
  const Schedule schedule = plan_for(calibrate());
  ASSERT_EQ(schedule.plan.verdict, PlanVerdict::prefetch);
  EXPECT_EQ(schedule.method.issue, "before");
  EXPECT_EQ(replay(schedule).result.verdict, Verdict::fast);
}

TEST_F(GpuFlowTest, AGpuThatKeepsLessThanWasPlannedForIsFoundOut) {
  const Schedule schedule = plan_for(calibrate());
  properties_.effective_l2_bytes = 128 << 10;
  const ReplayRecord record = replay(schedule);
  EXPECT_LT(record.result.arms[1].speedup->estimate, 1.05);
  EXPECT_GT(record.result.prediction_error.value(), 0.1);
}

}  // namespace
}  // namespace preserve
