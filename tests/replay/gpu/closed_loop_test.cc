// SPDX-License-Identifier: Apache-2.0
// Planning by measurement: what one stage writes the other reads, and what the GPU likes is found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/output_file.h"
#include "planner/measure/closed_loop.h"
#include "planner/measure/replay_findings.h"
#include "tests/replay/gpu/gpu_world.h"

namespace preserve {
namespace {

class GpuClosedLoop : public test::GpuWorld {
 protected:
  GpuClosedLoop() {
    test::write_synthetic_trace(trace_, {.layers = 2,
                                         .steps = 4,
                                         .lm_head_bytes = 1 << 20,
                                         .allreduce_ns = 20'000,
                                         .bandwidth_bytes_per_s = 100e9});
    step_ = fold_step(TraceDb::open(trace_));
    arguments_.request.candidates = true;
    arguments_.measure.time_limit_ns = 20'000'000'000;  // ends when it is precise, so sooner
  }

  // The simulated GPU as calibration would describe it.
  DeviceModel device() const {
    DeviceModel device;
    device.name = properties_.facts.name;
    device.kind = "gpu";
    device.source = "the simulation's own numbers";
    device.cache_bytes = properties_.facts.l2_bytes;
    device.cache_budget_bytes = properties_.effective_l2_bytes;
    device.memory_bandwidth_bytes_per_s = properties_.cold_bytes_per_s;
    device.cache_read_bandwidth_bytes_per_s = properties_.hot_bytes_per_s;
    device.op_floor_ns = 100;
    device.methods = {{.name = "bulk_l2",
                       .placement = "spare",
                       .bandwidth_bytes_per_s = 0.8 * properties_.cold_bytes_per_s,
                       .start_latency_ns = properties_.leaf_start_ns,
                       .chunk_bytes = 4096,
                       .ctas = 16}};
    return device;
  }

  ReplayFindings replay(Schedule schedule) {
    schedule.trace_path = trace_.string();
    schedule.trace_sha256 = sha256_of_file(trace_);
    std::ofstream(schedule_) << to_json(schedule);
    testing::internal::CaptureStdout();
    std::string error;
    try {
      EXPECT_EQ(run_replay(console_, arguments_, world_), 0);
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    testing::internal::GetCapturedStdout();
    if (!error.empty()) throw std::runtime_error(error);
    return read_findings(TraceDb::open(replay_), schedule);
  }

  Schedule run(ClosedLoop& loop) {
    while (loop.next()) loop.take(replay(*loop.next()));
    return loop.result();
  }

  FoldedStep step_;
};

TEST_F(GpuClosedLoop, FindsHowManyThreadBlocksItTakes) {
  properties_.prefetch_bytes_per_s = [](GpuFetch, int ctas, int64_t) {
    return ctas >= 32 ? 80e9 : 8e9;
  };
  ClosedLoop loop(step_, device(), {}, 2);
  const Schedule first = *loop.next();
  EXPECT_EQ(first.method.ctas, 16);
  const Schedule chosen = run(loop);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::prefetch) << to_json(chosen);
  EXPECT_EQ(chosen.method.ctas, 32);
  EXPECT_GT(*chosen.plan.measured->low, 1);
}

// Bytes that no cache keeps save nothing.
TEST_F(GpuClosedLoop, DoesNothingWhereTheCacheKeepsNothing) {
  const DeviceModel predicted = device();
  properties_.effective_l2_bytes = 64 << 10;
  properties_.facts.persisting_l2_max_bytes = properties_.facts.persisting_l2_default_bytes = 0;
  ClosedLoop loop(step_, predicted, {}, 1);
  const Schedule chosen = run(loop);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::do_nothing);
  EXPECT_THAT(chosen.plan.reasons.back(), testing::HasSubstr("none of"));
}

}  // namespace
}  // namespace preserve
