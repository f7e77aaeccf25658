// SPDX-License-Identifier: Apache-2.0
// The executor on the simulated GPU: what it measures is what the simulated properties imply.
#include "replay/gpu/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "common/error.h"
#include "replay/gpu/replay.h"
#include "replay/measure/measure.h"
#include "tests/replay/ranks/fake_ranks.h"
#include "tests/replay/step/small_program.h"
#include "tests/support/errors.h"
#include "tests/support/fake_gpu.h"

namespace preserve {
namespace {

using test::fails_with;
using test::FakeGpu;
using testing::HasSubstr;

constexpr int64_t kFetched = 512 << 10;  // fits into a window of 10 us at 80 GB/s

class GpuExecutorTest : public testing::Test {
 protected:
  GpuExecutorTest() {
    spec_.layers = 4;  // 9 MiB against an L2 of 3 MiB: nothing stays from step to step
    use(kFetched);
  }

  void use(int64_t bytes,
           const IssueMethod& method = {"bulk_l2", "spare", 4096, 16, "normal", "before"}) {
    job_.program = job_.rank_program = test::small_program(spec_);
    job_.arms = test::small_arms(job_.program, bytes, method);
    job_.schedule.ranks = 2;
    job_.schedule.device_name = "Simulated GPU";
  }

  GpuPlan plan(const FakeGpu& gpu, const DeviceModel* fits = nullptr) const {
    ReplayRequest request;
    request.schedule = "schedule.json";
    return plan_for_gpu(job_, request, gpu.facts(), multiplies_, false, fits);
  }

  // Of collectives that can be split.
  static DeviceModel fitted() {
    DeviceModel fits;
    fits.name = "fitted";
    fits.collectives = {{"allreduce", "nccl", 2, 500, 2e9, 0, 1024, 1 << 20}};
    return fits;
  }

  // Step time of an arm of its own executor.
  double step_ns(const std::string& arm, const DeviceModel* fits = nullptr) {
    FakeGpu gpu(properties_);
    const GpuPlan made = plan(gpu, fits);
    GpuExecutor executor(ranks_, gpu, job_.rank_program, made, "");
    const auto& names = executor.arms();
    const auto found = std::find(names.begin(), names.end(), arm);
    EXPECT_NE(found, names.end()) << arm;
    return static_cast<double>(executor.run(static_cast<size_t>(found - names.begin()), 2).step_ns);
  }

  Measurement measure_all(FakeGpu& gpu, GpuExecutor& executor) {
    const MeasureOptions options{.time_limit_ns = 60'000'000, .sample_ns = 1'000'000};
    return measure(executor, options, [&] { return gpu.monotonic_ns(); });
  }

  test::SmallProgram spec_;
  test::FakeGpuProperties properties_;
  ReplayJob job_;
  LoneRank ranks_;
  std::vector<GpuElement> multiplies_;
};

TEST_F(GpuExecutorTest, TheBaselineLastsAsLongAsRecorded) {
  EXPECT_NEAR(step_ns("baseline"), static_cast<double>(job_.program.step_ns), 500);
}

TEST_F(GpuExecutorTest, EveryOperatorLastsAsLongAsRecorded) {
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  executor.run(0, 1);
  for (size_t op = 0; op < job_.program.ops.size(); ++op) {
    EXPECT_NEAR(executor.op_ns(0)[op], static_cast<double>(job_.program.ops[op].dur_ns), 50) << op;
  }
  const std::vector<OpInterval>& last = executor.last_step(0);
  for (size_t op = 1; op < last.size(); ++op) EXPECT_GE(last[op].start_ns, last[op - 1].end_ns);
  EXPECT_NEAR(static_cast<double>(executor.waits().ops[0].after_ns), 20'000 - (1 << 20) / 100.0,
              50);
}

TEST_F(GpuExecutorTest, FasterLaunchesThanRecordedAreHeldBackSlowerOnesMadeGood) {
  properties_.launch_gap_ns = 300;
  EXPECT_NEAR(step_ns("baseline"), static_cast<double>(job_.program.step_ns), 500);
  properties_.launch_gap_ns = 2500;
  EXPECT_NEAR(step_ns("baseline"), static_cast<double>(job_.program.step_ns), 2500);
}

TEST_F(GpuExecutorTest, PrefetchingGainsWhatTheCacheImplies) {
  const double saved_ns = step_ns("baseline") - step_ns("prefetch");
  const double windows = 2.0 * spec_.layers;
  const double implied_ns = windows * kFetched * (1 / 100.0 - 1 / 400.0);
  EXPECT_NEAR(saved_ns, implied_ns, 0.02 * implied_ns);
}

TEST_F(GpuExecutorTest, TheSavingIsInTheConsumers) {
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  executor.run(0, 2);
  executor.run(1, 2);
  for (const int32_t op : job_.arms[1].consumers) {
    const auto at = static_cast<size_t>(op);
    EXPECT_NEAR(executor.op_ns(0)[at] - executor.op_ns(1)[at], kFetched * 0.0075, 100) << op;
  }
  EXPECT_EQ(executor.fetched_bytes(1), 8 * kFetched);
}

TEST_F(GpuExecutorTest, WhatDoesNotFitTheCacheIsWorthNothing) {
  properties_.effective_l2_bytes = 256 << 10;
  EXPECT_NEAR(step_ns("baseline") / step_ns("prefetch"), 1.0, 0.01);
}

TEST_F(GpuExecutorTest, TheMachineryAloneCostsNothingHere) {
  EXPECT_NEAR(step_ns("baseline") / step_ns("null"), 1.0, 0.002);
}

TEST_F(GpuExecutorTest, UselessTrafficBeyondTheWindowCosts) {
  use(2 << 20);
  spec_.weight_bytes = 2 << 20;
  spec_.op_ns = 25'000;
  use(2 << 20);
  EXPECT_LT(step_ns("baseline") / step_ns("useless"), 0.98);
}

TEST_F(GpuExecutorTest, HotBoundsThePrefetch) {
  const double hot_ns = step_ns("hot");
  EXPECT_LT(hot_ns, step_ns("prefetch"));
  const double reads_ns = spec_.layers * ((2 << 20) + (256 << 10)) * (1 / 100.0 - 1 / 400.0);
  EXPECT_NEAR(step_ns("baseline") - hot_ns, reads_ns, 0.05 * reads_ns);
}

TEST_F(GpuExecutorTest, OverlapHidesAllButTheLastPiece) {
  const DeviceModel fits = fitted();
  const double piece_ns = 10'000 * (500 + 4096 / 2.0) / (500 + 16384 / 2.0);
  // 10 us become the last piece; three launches come between the operator's pieces.
  const double gain_ns = 2.0 * spec_.layers * (10'000 - piece_ns - 3 * 1'000);
  EXPECT_NEAR(step_ns("baseline") - step_ns("overlap", &fits), gain_ns, 0.05 * gain_ns);
}

TEST_F(GpuExecutorTest, AllArmsAreMeasuredAndAgreeOnWhatTheyRead) {
  const DeviceModel fits = fitted();
  properties_.noise = 0.005;
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu, &fits), "");
  EXPECT_THAT(executor.arms(),
              testing::ElementsAre("baseline", "prefetch", "null", "useless", "hot", "overlap"));
  const Measurement measured = measure_all(gpu, executor);
  EXPECT_EQ(measured.result.verdict, Verdict::fast);
  EXPECT_FALSE(measured.result.busy);
}

TEST_F(GpuExecutorTest, OtherBytesThanBeforeEndTheRun) {
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  executor.run(0, 1);
  gpu.corrupt((GpuAddress{1} << 32) + 5000);
  EXPECT_THAT([&] { executor.run(1, 1); }, fails_with("arm prefetch consumed other bytes"));
}

TEST_F(GpuExecutorTest, ProductsAreMultipliedAndEveryArmStillReadsTheSame) {
  multiplies_ = properties_.multiplies = {GpuElement::fp16};
  for (ProgramOp& op : job_.rank_program.ops) {
    if (!op.weights.empty()) op.gemm = StepGemm{4, 512, 1024, "fp16"};
  }
  FakeGpu gpu(properties_);
  const GpuPlan made = plan(gpu);
  EXPECT_EQ(made.products, 8);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, made, "");
  const double baseline_ns = static_cast<double>(executor.run(0, 2).step_ns);
  EXPECT_NEAR(baseline_ns, static_cast<double>(job_.program.step_ns), 500);
  for (size_t arm = 1; arm < made.arms.size(); ++arm) EXPECT_NO_THROW(executor.run(arm, 1)) << arm;
  EXPECT_LT(static_cast<double>(executor.run(1, 2).step_ns), 0.95 * baseline_ns);
  EXPECT_LT(static_cast<double>(executor.run(4, 2).step_ns), 0.95 * baseline_ns);
}

TEST_F(GpuExecutorTest, ProductsThatAreOnlyReadAreWarnedOf) {
  const auto warned = [&] {
    FakeGpu gpu(properties_);
    const std::vector<std::string> warnings = plan(gpu).warnings;
    return std::any_of(warnings.begin(), warnings.end(), [](const std::string& text) {
      return text.find("cuBLASLt is missing") != std::string::npos;
    });
  };
  EXPECT_FALSE(warned());  // no shapes are known
  job_.rank_program.ops[0].gemm = StepGemm{4, 512, 1024, "fp16"};
  EXPECT_TRUE(warned());
  multiplies_ = properties_.multiplies = {GpuElement::fp16};
  EXPECT_FALSE(warned());
}

TEST_F(GpuExecutorTest, TheSetAsideIsThereForArmsThatAskForIt) {
  use(kFetched, {"bulk_l2", "spare", 4096, 16, "last", "after"});
  properties_.facts.persisting_l2_default_bytes = 128 << 10;
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  std::vector<int64_t> seen;
  gpu.before_run = [&](int) { seen.push_back(gpu.set_aside_bytes()); };
  executor.run(1, 1);
  executor.run(0, 1);
  executor.run(3, 1);
  EXPECT_THAT(seen,
              testing::ElementsAre(kFetched, kFetched, 128 << 10, 128 << 10, kFetched, kFetched));
}

TEST_F(GpuExecutorTest, ThrottledSamplesAreDiscarded) {
  properties_.probe_ns = 0;  // what the device says has to do
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  int runs = 0;
  gpu.before_run = [&](int) {
    const bool held_down = ++runs > 60 && runs <= 66;
    GpuState state;
    if (held_down) state.throttle = "power cap";
    gpu.set_state(state);
    gpu.slow_down(held_down ? 1.3 : 1.0);
  };
  const Measurement measured = measure_all(gpu, executor);
  const auto throttled =
      std::count_if(measured.samples.begin(), measured.samples.end(),
                    [](const MeasuredSample& sample) { return sample.discarded == "throttled"; });
  EXPECT_GE(throttled, 2);  // three samples, of which an arm that reads little may not suffer
  EXPECT_LE(throttled, 3);
  EXPECT_GE(executor.throttled_runs(), 3);
  EXPECT_EQ(executor.throttle(), "power cap");
}

TEST_F(GpuExecutorTest, ASharedGpuGivesNoVerdict) {
  FakeGpu gpu(properties_);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, plan(gpu), "");
  GpuState state;
  state.other_pids = {4711};
  gpu.set_state(state);
  const Measurement measured = measure_all(gpu, executor);
  EXPECT_TRUE(measured.result.busy);
  EXPECT_EQ(measured.result.verdict, Verdict::ambiguous);
  EXPECT_THAT(executor.other_use(), HasSubstr("4711"));
}

TEST_F(GpuExecutorTest, AllocatesDistinctMemoryForEverything) {
  FakeGpu gpu(properties_);
  const GpuPlan made = plan(gpu);
  GpuExecutor executor(ranks_, gpu, job_.rank_program, made, "");
  EXPECT_EQ(gpu.allocated_bytes(), job_.program.tensor_bytes + made.hot_bytes + made.useless_bytes);
  EXPECT_GE(made.memory_bytes, gpu.allocated_bytes());
}

TEST_F(GpuExecutorTest, RealCollectivesTakeWhatTheyTake) {
  properties_.has_nccl = true;
  properties_.nccl_latency_ns = 12'000;
  FakeGpu gpu(properties_);
  const test::FakeRank ranks(0, 2);
  std::vector<std::string> said;
  const ReplayRecord record =
      replay_on_gpu(ranks, gpu, job_, {}, {.nccl = true}, {.time_limit_ns = 1},
                    [&](const std::string& text) { said.push_back(text); });
  EXPECT_EQ(record.meta.at("collective"), "nccl");
  EXPECT_EQ(record.result.ranks, 2);
  EXPECT_EQ(record.op_times.ranks, 2U);
  EXPECT_EQ(record.steps.size(), 2 * 6U);  // real collectives need no fits to be split
  EXPECT_NEAR(record.op_times.at(0, 1, 2).median_ns, 12'000 + 16384 / 50.0, 10);
  const double longer_ns = 2.0 * spec_.layers * (12'000 + 16384 / 50.0 - 10'000);
  EXPECT_NEAR(static_cast<double>(record.samples[0].value.step_ns),
              static_cast<double>(job_.program.step_ns) + longer_ns, 1000);
  EXPECT_THAT(said, testing::ElementsAre(testing::Not(HasSubstr("stand-in"))));
}

TEST_F(GpuExecutorTest, WithoutNcclRealCollectivesAreRefused) {
  FakeGpu gpu(properties_);
  const test::FakeRank ranks(0, 2);
  EXPECT_THAT(
      [&] { replay_on_gpu(ranks, gpu, job_, {}, {.nccl = true}, {}, [](const std::string&) {}); },
      fails_with("NCCL"));
}

// Any step, with slices wherever they may be: what the arms are made of stays inside the memory
// (the device checks), every arm reads the same bytes, and the baseline is no shorter than
// recorded.
RC_GTEST_PROP(GpuExecutorAnyStep, AllArmsReadTheSame, ()) {
  StepProgram program;
  const int tensors = *rc::gen::inRange(1, 5);
  for (int i = 0; i < tensors; ++i) {
    program.tensors.push_back({fmt::format("t{}", i), *rc::gen::inRange<int64_t>(1, 200'000)});
  }
  const auto slice = [&] {
    const auto tensor = *rc::gen::inRange(0, tensors);
    const int64_t size = program.tensors[static_cast<size_t>(tensor)].bytes;
    const int64_t offset = *rc::gen::inRange<int64_t>(0, size);
    return TensorSlice{tensor, offset, *rc::gen::inRange<int64_t>(1, size - offset + 1)};
  };
  const auto slices = [&](int most) {
    std::vector<TensorSlice> some;
    for (int i = *rc::gen::inRange(0, most + 1); i > 0; --i) some.push_back(slice());
    return some;
  };
  const auto kinds =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 4)));
  ReplayJob job;
  for (const int kind : kinds) {
    ProgramOp op;
    op.kind = kind == 0 ? OpKind::collective : kind == 1 ? OpKind::p2p : OpKind::compute;
    op.name = "op";
    op.dur_ns = *rc::gen::inRange(0, 20'000);
    op.gap_ns = *rc::gen::inRange(0, 3'000);
    if (kind == 0) {
      op.collective.emplace();
      op.collective->function = "allreduce";
      op.collective->bytes = *rc::gen::inRange<int64_t>(0, 100'000);
    }
    if (kind > 1) op.weights = slices(2);
    if (kind > 1) op.reads = slices(2);
    if (kind > 1) op.writes = slices(1);
    program.ops.push_back(op);
    program.step_ns += op.gap_ns + op.dur_ns;
  }
  program.tail_ns = *rc::gen::inRange(0, 20'000);
  program.step_ns += program.tail_ns;
  job.program = job.rank_program = program;
  job.schedule.ranks = 2;
  job.arms = test::small_arms(program, 0);
  const std::string issue = *rc::gen::element<std::string>("before", "after");
  for (const size_t arm : {1, 2, 3}) {
    job.arms[arm].method = {"bulk_l2", "spare", 4096, 4, "normal", issue};
  }
  for (size_t op = 0; op < kinds.size(); ++op) {
    if (*rc::gen::inRange(0, 2) == 0) continue;
    const ArmWindow window{static_cast<int32_t>(op), {slice(), slice()}};
    for (const size_t arm : {1, 2, 3}) {
      job.arms[arm].windows.push_back(window);
      if (arm == 2) job.arms[arm].windows.back().slices.clear();
      if (arm == 2) continue;
      for (const TensorSlice& part : window.slices) job.arms[arm].planned_bytes += part.bytes;
    }
  }
  DeviceModel fits;
  fits.collectives = {{"allreduce", "nccl", 2, 500, 2e9, 0, 1024, 1 << 20}};
  FakeGpu gpu;
  const LoneRank ranks;
  const GpuPlan plan = plan_for_gpu(job, {}, gpu.facts(), {}, false, &fits);
  GpuExecutor executor(ranks, gpu, program, plan, "");
  for (size_t arm = 0; arm < executor.arms().size(); ++arm) {
    const ArmSample sample = executor.run(arm, 1);  // throws when the sums differ
    const auto rounding_ns = static_cast<int64_t>(program.ops.size()) + 1;
    if (arm == 0) RC_ASSERT(sample.step_ns >= program.step_ns - rounding_ns);
  }
}

class GpuPlanTest : public GpuExecutorTest {
 protected:
  auto planning(const IssueMethod& method) {
    return [this, method] {
      use(kFetched, method);
      const FakeGpu gpu(properties_);
      plan(gpu);
    };
  }
};

TEST_F(GpuPlanTest, WhatNoGpuKnowsIsRefused) {
  EXPECT_THAT(planning({"prefetcht0", "spare", 4096, 16, "normal", "after"}),
              testing::ThrowsMessage<Error>(
                  testing::AllOf(HasSubstr("arm prefetch"), HasSubstr("prefetcht0"))));
  EXPECT_THAT(planning({"bulk_l2", "spare", 100, 16, "normal", "after"}), fails_with("100"));
  EXPECT_THAT(planning({"bulk_l2", "spare", 4 << 20, 16, "normal", "after"}),
              fails_with("1.0 MiB"));
  EXPECT_THAT(planning({"bulk_l2", "spare", 4096, 133, "normal", "after"}), fails_with("132 SMs"));
  EXPECT_THAT(planning({"bulk_l2", "spare", 4096, 16, "first", "after"}), fails_with("first"));
  properties_.facts.compute_major = 8;
  EXPECT_THAT(planning({"bulk_l2", "spare", 4096, 16, "normal", "after"}),
              fails_with("prefetch_l2"));
  use(0, {"prefetcht0", "", 0, 0, "normal", "after"});  // nothing to fetch needs no method
  FakeGpu gpu(properties_);
  EXPECT_NO_THROW(GpuExecutor(ranks_, gpu, job_.rank_program, plan(gpu), ""));
}

TEST_F(GpuPlanTest, DefaultsOfTheMethod) {
  use(kFetched, {"prefetch_l2", "spare", 0, 0, "normal", "after"});
  FakeGpu gpu(properties_);
  EXPECT_EQ(plan(gpu).arms[1].method.chunk_bytes, 128);
}

TEST_F(GpuPlanTest, TooLittleMemorySaysHowMuchIsNeeded) {
  properties_.facts.free_bytes = 20 << 20;
  FakeGpu gpu(properties_);
  EXPECT_THAT([&] { require_memory(plan(gpu), gpu.facts()); },
              testing::ThrowsMessage<Error>(testing::AllOf(
                  HasSubstr("device memory"), HasSubstr("20.0 MiB of 1.00 GiB are free"))));
}

TEST_F(GpuPlanTest, SlicesOldDriversAndOldDevicesAreRefused) {
  GpuFacts facts = test::fake_facts();
  EXPECT_NO_THROW(require_usable(facts));
  facts.mig = true;
  EXPECT_THAT([&] { require_usable(facts); }, fails_with("MIG"));
  facts = test::fake_facts();
  facts.driver_cuda = 12080;
  EXPECT_THAT([&] { require_usable(facts); },
              testing::ThrowsMessage<Error>(
                  testing::AllOf(HasSubstr("12.8"), HasSubstr("13.0"), HasSubstr("newer driver"))));
  facts = test::fake_facts();
  facts.compute_major = 7;
  EXPECT_THAT([&] { require_usable(facts); }, fails_with("8.0"));
}

TEST_F(GpuPlanTest, AScheduleOfAnotherDeviceIsRefused) {
  Schedule schedule;
  schedule.device_name = "h100-sxm";
  GpuFacts facts = test::fake_facts();
  facts.name = "NVIDIA H200";
  EXPECT_THAT(
      [&] { require_planned_device(schedule, "schedule.json", facts, false); },
      testing::ThrowsMessage<Error>(testing::AllOf(HasSubstr("h100-sxm"), HasSubstr("NVIDIA H200"),
                                                   HasSubstr("--allow-device-mismatch"))));
  EXPECT_NO_THROW(require_planned_device(schedule, "schedule.json", facts, true));
  facts.name = "NVIDIA H100 80GB HBM3";
  EXPECT_NO_THROW(require_planned_device(schedule, "schedule.json", facts, false));
}

TEST_F(GpuPlanTest, ALinkIsImitatedByStandInsOnly) {
  job_.schedule.link_latency_ns = 50'000;
  const FakeGpu gpu(properties_);
  ReplayRequest request;
  EXPECT_THAT([&] { plan_for_gpu(job_, request, gpu.facts(), {}, true, nullptr); },
              fails_with("--collective stand-in"));
  const double windows = 2.0 * spec_.layers;
  EXPECT_NEAR(step_ns("baseline"), static_cast<double>(job_.program.step_ns) + windows * 50'000,
              500);
}

TEST_F(GpuPlanTest, OtherUseIsPutInWords) {
  GpuState state;
  EXPECT_EQ(other_use(state), "");
  state.utilisation_percent = 3;
  EXPECT_EQ(other_use(state), "");
  state.utilisation_percent = 80;
  EXPECT_THAT(other_use(state), HasSubstr("80 %"));
  state.other_pids = {12, 13};
  EXPECT_THAT(other_use(state), HasSubstr("2 other processes"));
}

}  // namespace
}  // namespace preserve
