// SPDX-License-Identifier: Apache-2.0
#include "replay/step/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "common/error.h"
#include "common/output_file.h"
#include "planner/schedule/schedule_check.h"
#include "replay/cpu/replay.h"
#include "replay/step/job.h"
#include "tests/replay/step/simple_schedule.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::Contains;
using testing::HasSubstr;

// Throws an input error whose message has all of the parts.
template <typename... Parts>
auto refused(const Parts&... parts) {
  return test::fails_with(ErrorKind::input, testing::AllOf(HasSubstr(parts)...));
}

HostCores small_host() {
  HostCores host;
  host.cores = {0, 1};
  host.cache_bytes = 32 << 20;
  return host;
}

class StepProgramTest : public testing::Test {
 protected:
  StepProgramTest() {
    test::write_synthetic_trace(trace_, {.layers = 2});
    step_ = fold_step(TraceDb::open(trace_));
    schedule_ = test::simple_schedule(trace_);
    request_.trace = trace_;
    request_.schedule = directory_ / "schedule.json";
  }

  size_t first_collective() const {
    for (size_t i = 0; i < step_.ops.size(); ++i) {
      if (step_.ops[i].kind == OpKind::collective) return i;
    }
    throw std::logic_error("no collective");
  }

  void write_schedule() const { std::ofstream(request_.schedule) << to_json(schedule_); }
  ReplayJob job() const { return load_job(request_, std::nullopt); }
  CpuPlan cpu_plan() const { return plan_for_cpu(job(), request_, small_host()); }

  test::TemporaryDirectory directory_;
  std::filesystem::path trace_ = directory_ / "trace.db";
  FoldedStep step_;
  Schedule schedule_;
  ReplayRequest request_;
};

TEST_F(StepProgramTest, GapsAndDurationsAddUpToTheRecordedStep) {
  const StepProgram program = program_of(step_);
  int64_t total_ns = program.tail_ns;
  for (const ProgramOp& op : program.ops) total_ns += op.gap_ns + op.dur_ns;
  EXPECT_NEAR(static_cast<double>(total_ns), step_.wall_ns, 100.0);
  EXPECT_THAT(program.warnings, testing::IsEmpty());
}

TEST_F(StepProgramTest, AProductIsKeptWhenItsWeightsAreThere) {
  const auto qkv = static_cast<size_t>(
      std::find_if(step_.ops.begin(), step_.ops.end(),
                   [](const StepOp& op) { return op.name == "layers.0.attn.qkv"; }) -
      step_.ops.begin());
  StepOp& op = step_.ops[qkv];
  const StepAccess weight = op.accesses.front();
  StepAccess bias = weight;
  bias.bytes = 64;
  op.accesses.insert(op.accesses.begin(), bias);
  op.gemm = StepGemm{4, weight.bytes / 2 / 1024, 1024, "fp16"};
  const StepProgram program = program_of(step_);
  ASSERT_TRUE(program.ops[qkv].gemm);
  EXPECT_EQ(*program.ops[qkv].gemm, *op.gemm);
  EXPECT_EQ(program.ops[qkv].weights.size(), 2u);
  EXPECT_EQ(program.ops[qkv].weights.front().bytes, weight.bytes);

  op.gemm->dtype = "fp8";  // half of the bytes that were recorded
  EXPECT_FALSE(program_of(step_).ops[qkv].gemm);
  op.gemm->dtype = "int4";
  EXPECT_FALSE(program_of(step_).ops[qkv].gemm);
  op.gemm = StepGemm{4, INT64_MAX, INT64_MAX, "fp16"};
  EXPECT_FALSE(program_of(step_).ops[qkv].gemm);
}

TEST_F(StepProgramTest, EveryRecordedByteIsMovedOnce) {
  const StepProgram program = program_of(step_);
  int64_t recorded = 0;
  int64_t moved = 0;
  for (const StepOp& op : step_.ops) {
    for (const StepAccess& access : op.accesses) recorded += access.bytes;
  }
  for (const ProgramOp& op : program.ops) {
    for (const auto* slices : {&op.weights, &op.reads, &op.writes}) {
      for (const TensorSlice& slice : *slices) moved += slice.bytes;
    }
  }
  EXPECT_GT(recorded, 0);
  EXPECT_EQ(moved, recorded);
}

TEST_F(StepProgramTest, TensorsAreAsLargeAsTheirAccessesReach) {
  step_.ops[0].accesses.push_back({0, 1 << 20, 64, AccessMode::read, 1, "test"});
  const StepProgram program = program_of(step_);
  EXPECT_GE(program.tensors[0].bytes, (1 << 20) + 64);
}

TEST_F(StepProgramTest, WhatCannotBeRepeatedIsSaid) {
  step_.ops[first_collective()].collective->function = "send";
  const StepProgram program = program_of(step_);
  EXPECT_FALSE(program.ops[first_collective()].collective.has_value());
  EXPECT_THAT(program.warnings, Contains(HasSubstr("cannot be repeated")));
}

TEST_F(StepProgramTest, CollectivesOfSomeRanksOnlyAreWaitedFor) {
  step_.ops[first_collective()].collective->ranks = step_.world_size + 1;
  EXPECT_THAT(program_of(step_).warnings, Contains(HasSubstr("only some ranks")));
}

TEST_F(StepProgramTest, OverlappingOperatorsAreSaid) {
  step_.ops[1].start_ns = step_.ops[0].start_ns;
  EXPECT_THAT(program_of(step_).warnings, Contains(HasSubstr("overlap")));
}

TEST_F(StepProgramTest, NonsenseIsRefused) {
  FoldedStep bad = step_;
  bad.ops[0].dur_ns = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT([&] { program_of(bad); }, refused(bad.ops[0].name));
  bad = step_;
  bad.ops[0].accesses.push_back({1 << 20, 0, 64, AccessMode::read, 1, "test"});
  EXPECT_THAT([&] { program_of(bad); }, refused("invalid access"));
  bad = step_;
  bad.ops[0].accesses.push_back({0, INT64_MAX, 64, AccessMode::read, 1, "test"});
  EXPECT_THROW(program_of(bad), Error);
  bad = step_;
  bad.tensors[0].bytes = bad.tensors[1].bytes = INT64_MAX;
  EXPECT_THROW(program_of(bad), Error);
  bad = step_;
  bad.ops.clear();
  EXPECT_THAT([&] { program_of(bad); }, refused("no operators"));
}

TEST_F(StepProgramTest, ArmsAreTheScheduleAndItsControls) {
  const StepProgram program = program_of(step_);
  const std::vector<ReplayArm> arms = arms_of(program, schedule_, true);
  ASSERT_EQ(arms.size(), 6U);
  EXPECT_EQ(arms[0].name, "baseline");
  EXPECT_EQ(arms[1].name, "prefetch");
  EXPECT_EQ(arms[2].name, "null");
  EXPECT_EQ(arms[3].name, "useless");
  EXPECT_EQ(arms[4].name, "hot");
  EXPECT_EQ(arms[5].name, "prefetch-1");
  EXPECT_TRUE(arms[0].windows.empty());
  EXPECT_GT(arms[1].planned_bytes, 0);
  EXPECT_EQ(arms[3].planned_bytes, arms[1].planned_bytes);
  EXPECT_EQ(arms[2].windows.size(), arms[1].windows.size());  // same places, nothing in them
  for (const ArmWindow& window : arms[2].windows) EXPECT_TRUE(window.slices.empty());
  EXPECT_EQ(arms_of(program, schedule_, false).size(), 5U);
}

TEST_F(StepProgramTest, APlanIsIssuedItsOwnWay) {
  schedule_.candidates[0].method = IssueMethod{"prefetcht1", "spare", 512, 0, "normal", "before"};
  schedule_.candidates.push_back(schedule_.plan);
  const std::vector<ReplayArm> arms = arms_of(program_of(step_), schedule_, true);
  for (const size_t arm : {1, 2, 3, 6}) EXPECT_EQ(arms[arm].method, schedule_.method) << arm;
  EXPECT_EQ(arms[5].method, *schedule_.candidates[0].method);
}

TEST_F(StepProgramTest, PlannedBytesAreTheSchedules) {
  const std::vector<ReplayArm> arms = arms_of(program_of(step_), schedule_, false);
  int64_t planned = 0;
  for (const PlannedWindow& window : schedule_.plan.windows) planned += window.used_bytes;
  EXPECT_EQ(arms[1].planned_bytes, planned);
}

TEST_F(StepProgramTest, AScheduleThatDoesNotFitIsRefusedWithItsFile) {
  schedule_.plan.windows[0].prefetches[0].offset_bytes = int64_t{1} << 50;
  write_schedule();
  EXPECT_THAT([&] { job(); }, refused("schedule.json", "fetches"));
}

TEST_F(StepProgramTest, AnotherRecordingIsReplayedWhenAsked) {
  schedule_.signature = signature_of(step_);
  name_places(step_, schedule_);
  write_schedule();
  request_.trace = directory_ / "again.db";
  test::write_synthetic_trace(request_.trace, {.layers = 2, .op_latency_ns = 1500});
  EXPECT_THAT([&] { job(); }, refused("--other-recording"));
  request_.other_recording = true;
  const ReplayJob other = job();
  EXPECT_EQ(other.schedule.trace_sha256, sha256_of_file(request_.trace));
  EXPECT_THAT(other.warnings, testing::Contains(HasSubstr("from another recording")));
  EXPECT_GT(other.arms[1].planned_bytes, 0);
  test::write_synthetic_trace(request_.trace, {.layers = 3});
  EXPECT_THAT([&] { job(); }, refused("its collectives"));
}

TEST_F(StepProgramTest, SizesBeyondAllMemoryNameTheirFile) {
  for (StepTensor& tensor : step_.tensors) tensor.bytes = std::numeric_limits<int64_t>::max() / 2;
  EXPECT_THAT([&] { program_of(step_); }, refused("trace.db", "size of all tensors"));
}

TEST_F(StepProgramTest, RanksWithOtherOperatorsAreRecognised) {
  const StepProgram program = program_of(step_);
  EXPECT_TRUE(same_operators(program, program));
  StepProgram other = program;
  other.ops[first_collective()].collective->bytes = 1;
  EXPECT_FALSE(same_operators(program, other));
  other = program;
  other.ops.pop_back();
  EXPECT_FALSE(same_operators(program, other));
}

TEST_F(StepProgramTest, AJobKnowsItsMemoryAndItsCores) {
  test::write_simple_schedule(request_.schedule, trace_);
  const ReplayJob loaded = job();
  const CpuPlan plan = cpu_plan();
  EXPECT_GE(plan.memory_bytes, loaded.program.tensor_bytes + loaded.arms[3].planned_bytes);
  EXPECT_NO_THROW(require_cores(plan, request_, small_host(), 2));
  EXPECT_THAT([&] { require_cores(plan, request_, small_host(), 3); }, refused("--oversubscribe"));
  request_.oversubscribe = true;
  EXPECT_NO_THROW(require_cores(plan, request_, small_host(), 3));
  EXPECT_THAT([&] { require_memory(plan, int64_t{1} << 30); }, refused("per rank"));
}

TEST_F(StepProgramTest, ASpareCoreCountsAsACore) {
  test::write_simple_schedule(request_.schedule, trace_, {.placement = "spare"});
  EXPECT_THAT([&] { require_cores(cpu_plan(), request_, small_host(), 2); }, refused("spare core"));
}

TEST_F(StepProgramTest, AnyArmMayNeedTheSpareCore) {
  schedule_.candidates[0].method = IssueMethod{"prefetcht1", "spare", 0, 0, "normal", "after"};
  write_schedule();
  EXPECT_FALSE(cpu_plan().needs_spare_core);
  request_.candidates = true;
  EXPECT_TRUE(cpu_plan().needs_spare_core);
  EXPECT_GT(cpu_plan().arms[5].method.chunk_bytes, 0);  // a default where the schedule names none
}

TEST_F(StepProgramTest, AMethodThatNoProcessorHasIsRefusedInAnyArm) {
  request_.candidates = true;
  schedule_.candidates[0].method = IssueMethod{"bulk_l2", "spare", 0, 0, "normal", "after"};
  write_schedule();
  EXPECT_THAT([&] { cpu_plan(); }, refused("bulk_l2"));
  schedule_.candidates[0].method = IssueMethod{"load", "consumer", 0, 0, "last", "after"};
  write_schedule();
  EXPECT_THAT([&] { cpu_plan(); }, refused("prefetch-1", "eviction"));
}

TEST_F(StepProgramTest, TheLinkMustBeTheSchedules) {
  test::write_simple_schedule(request_.schedule, trace_, {.link_latency_ns = 200'000});
  EXPECT_EQ(cpu_plan().options.link_latency_ns, 200'000);
  request_.link_latency_ns = 100'000;
  EXPECT_THAT([&] { job(); }, refused("100.00 us", "200.00 us"));
}

TEST_F(StepProgramTest, AnUnknownMethodIsRefusedOnlyWhenItIsNeeded) {
  test::write_simple_schedule(request_.schedule, trace_, {.method = "bulk_l2"});
  EXPECT_THAT([&] { cpu_plan(); }, refused("bulk_l2"));
  test::write_simple_schedule(request_.schedule, trace_,
                              {.bytes_per_window = 0, .method = "bulk_l2"});
  EXPECT_NO_THROW(cpu_plan());
  EXPECT_THAT(job().warnings, Contains(HasSubstr("fetches nothing")));
}

}  // namespace
}  // namespace preserve
