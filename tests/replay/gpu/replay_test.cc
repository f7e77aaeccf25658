// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "replay/grid/cell_run.h"
#include "tests/replay/gpu/gpu_world.h"
#include "tests/replay/step/simple_schedule.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class GpuReplayTest : public test::GpuWorld {
 protected:
  GpuReplayTest() {
    spec_.layers = 2;
    spec_.steps = 4;
    spec_.allreduce_ns = 20'000;
    spec_.lm_head_bytes = 1 << 20;
    test::write_synthetic_trace(trace_, spec_);
    write_schedule();
    arguments_.measure.time_limit_ns = 200'000'000;
  }

  void write_schedule() {
    Schedule schedule =
        test::simple_schedule(trace_, {.method = "bulk_l2", .placement = "spare", .wrap = true});
    schedule.device_name = planned_for_;
    schedule.method.ctas = 16;
    schedule.link_latency_ns = link_latency_ns_;
    std::ofstream(schedule_) << to_json(schedule);
  }

  // What it prints.
  std::string replay() {
    testing::internal::CaptureStdout();
    int code = -1;
    std::string error;
    try {
      code = run_replay(console_, arguments_, world_);
    } catch (const Error& caught) {
      error = caught.what();
    }
    std::string out = testing::internal::GetCapturedStdout();
    EXPECT_EQ(code, 0) << error;
    return out;
  }

  std::string refusal() {
    try {
      run_replay(console_, arguments_, world_);
    } catch (const Error& error) {
      EXPECT_NE(error.kind(), ErrorKind::internal) << error.what();
      EXPECT_FALSE(std::filesystem::exists(replay_));
      return error.what();
    }
    return "nothing was refused";
  }

  TraceDb db() const { return TraceDb::open(replay_); }
  ReplayResult result() const { return read_result(db()); }

  test::SyntheticTrace spec_;
  std::string planned_for_ = "Simulated GPU";
  int64_t link_latency_ns_ = 0;
};

TEST_F(GpuReplayTest, OneGpuMeasuresAllArmsWithStandIns) {
  arguments_.measure.time_limit_ns =
      20'000'000'000;  // stops when it is precise, which a simulation soon is
  const std::string out = replay();
  EXPECT_EQ(launched_ranks_, 1);
  EXPECT_THAT(out, HasSubstr("Simulated GPU, 1 of 2 ranks with stand-in collectives"));
  EXPECT_THAT(out, testing::ContainsRegex("faster .* with stand-in collectives: FAST"));
  const TraceDb file = db();
  EXPECT_EQ(file.meta("executor"), "cuda");
  EXPECT_EQ(file.meta("collective"), "stand-in");
  const ReplayResult result = read_result(file);
  EXPECT_EQ(result.verdict, Verdict::fast);
  EXPECT_EQ(file.meta("method"), "bulk_l2");
  EXPECT_EQ(file.meta("ctas"), "16");
  EXPECT_EQ(result.recorded_ranks, 2);
  EXPECT_NEAR(result.fidelity.value(), 1.0, 0.02);
  EXPECT_EQ(result.arms[1].issued_bytes, static_cast<double>(result.planned_bytes));
  std::vector<std::string> arms;
  for (const ArmResult& arm : result.arms) arms.push_back(arm.name);
  EXPECT_THAT(arms, testing::ElementsAre("baseline", "prefetch", "null", "useless", "hot"));
  EXPECT_THAT(result.warnings, testing::Contains(HasSubstr("no arm overlap")));
  EXPECT_EQ(test::count(file, "device WHERE kind = 'gpu'"), 1);
  EXPECT_EQ(test::count(file, "stream WHERE kind != 'gpu'"), 0);
  EXPECT_EQ(test::count(file, "process"), 1);
  EXPECT_EQ(test::count(file, "op WHERE end_ns < start_ns"), 0);
}

TEST_F(GpuReplayTest, FitsOfCollectivesAddTheOverlapArm) {
  arguments_.device_file = PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json";
  EXPECT_THAT(replay(), HasSubstr("overlap"));
  EXPECT_GT(std::stoi(db().meta("overlapped_collectives")), 0);
  EXPECT_TRUE(result().find_arm("overlap")->speedup);
}

TEST_F(GpuReplayTest, ACellOfAGridIsTakenFromIt) {
  arguments_.device_file = PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json";
  arguments_.measure.time_limit_ns = 20'000'000'000;
  replay();
  GridCell cell;
  take_results(load_schedule(schedule_), result(), cell);
  EXPECT_EQ(cell.status, CellStatus::done);
  EXPECT_EQ(cell.collective, "stand-in");
  EXPECT_TRUE(cell.sound());
  EXPECT_EQ(cell.choice, kPrefetch) << "a simulated GPU gains";
  EXPECT_GT(cell.chosen_speedup, 1);
  ASSERT_TRUE(cell.fused && cell.fused->low) << "overlap and prefetch share their pairs";
  ASSERT_EQ(cell.arms.size(), 6U);
  EXPECT_NEAR(cell.fused->estimate,
              static_cast<double>(cell.arms[5].step_ns) / static_cast<double>(cell.arms[1].step_ns),
              0.01)
      << "overlap over prefetch";
  EXPECT_EQ(cell.issued_bytes, cell.planned_bytes);
  EXPECT_NEAR(*cell.fidelity, 1.0, 0.02);
}

TEST_F(GpuReplayTest, TheLinkIsLabelledToo) {
  link_latency_ns_ = 50'000;
  write_schedule();
  EXPECT_THAT(replay(), HasSubstr("with a 50 us stand-in link and stand-in collectives"));
  EXPECT_EQ(db().meta("collective"), "stand-in+link");
  EXPECT_NEAR(result().fidelity.value(), 1.0, 0.02);
}

TEST_F(GpuReplayTest, AutoIsWhereTheRecordingRan) {
  arguments_.device = parse_device("auto");
  test::write_synthetic_trace(trace_, spec_, [](TraceDb& trace) {
    trace.add(DeviceRow{.host = "host", .kind = "gpu", .name = "Simulated GPU"});
  });
  write_schedule();
  replay();
  EXPECT_EQ(db().meta("executor"), "cuda");
}

TEST_F(GpuReplayTest, WithoutAGpuItSaysWhatIsMissingAndWhatElseThereIs) {
  gpus_ = 0;
  EXPECT_THAT(refusal(), AllOf(HasSubstr("no CUDA device 0"), HasSubstr("--device cpu")));
}

TEST_F(GpuReplayTest, AnotherDeviceNeedsLeave) {
  planned_for_ = "h100-sxm";
  write_schedule();
  EXPECT_THAT(refusal(), AllOf(HasSubstr("h100-sxm"), HasSubstr("Simulated GPU"),
                               HasSubstr("--allow-device-mismatch")));
  arguments_.allow_device_mismatch = true;
  replay();
  EXPECT_EQ(db().meta("schedule_device_name"), "h100-sxm");
  EXPECT_EQ(db().meta("device_name"), "Simulated GPU");
}

TEST_F(GpuReplayTest, RealCollectivesNeedAGpuPerRank) {
  arguments_.collectives = Collectives::nccl;
  EXPECT_THAT(refusal(), AllOf(HasSubstr("2 ranks"), HasSubstr("--collective stand-in")));
  gpus_ = 2;
  arguments_.collectives = Collectives::automatic;
  EXPECT_EQ(run_replay(console_, arguments_, world_), 7);
  EXPECT_EQ(launched_ranks_, 2) << "as many GPUs as ranks: one process each";
  arguments_.collectives = Collectives::stand_in;
  replay();
  EXPECT_EQ(launched_ranks_, 1);
}

TEST_F(GpuReplayTest, ABusyGpuGivesNoVerdictAndSaysWhy) {
  properties_.state.other_pids = {4711};
  properties_.state.sm_clock_mhz = 1980;
  EXPECT_THAT(replay(), HasSubstr("AMBG"));
  EXPECT_EQ(result().verdict, Verdict::ambiguous);
  EXPECT_TRUE(result().busy);
  EXPECT_THAT(db().meta("gpu_other_use"), HasSubstr("4711"));
  EXPECT_THAT(result().warnings, testing::Contains(HasSubstr("there is no verdict")));
  EXPECT_THAT(db().meta("gpu_state_before"), HasSubstr("SM 1980 MHz"));
}

TEST_F(GpuReplayTest, AGpuThatWasBusyBeforeGivesNoVerdictEither) {
  properties_.state.utilisation_percent = 80;
  replay();
  EXPECT_EQ(result().verdict, Verdict::ambiguous);
  EXPECT_THAT(db().meta("gpu_other_use"), HasSubstr("80 %"));
}

TEST_F(GpuReplayTest, WhereStartEdgesDoNotWorkPrefetchesAreLeaves) {
  replay();
  EXPECT_EQ(db().meta("issue"), "after");
  EXPECT_THAT(result().warnings, testing::Each(testing::Not(HasSubstr("issued before"))));
  properties_.takes_start_edges = false;
  replay();
  EXPECT_EQ(db().meta("issue"), "before");
  EXPECT_THAT(result().warnings, testing::Contains(HasSubstr("no edge from the start")));
  properties_.takes_start_edges = true;
  properties_.launch_order_start_ns = 300'000;
  replay();
  EXPECT_EQ(db().meta("issue"), "before");
  EXPECT_THAT(result().warnings, testing::Contains(HasSubstr("wait for the end")));
}

TEST_F(GpuReplayTest, TooLittleMemoryAndSlicesAreRefused) {
  properties_.facts.free_bytes = 8 << 20;
  EXPECT_THAT(refusal(), HasSubstr("of device memory"));
  properties_.facts = test::fake_facts();
  properties_.facts.mig = true;
  EXPECT_THAT(refusal(), HasSubstr("MIG"));
}

TEST(DeviceChoice, IsReadStrictly) {
  EXPECT_EQ(parse_device("auto").kind, DeviceChoice::Kind::automatic);
  EXPECT_EQ(parse_device("cpu").kind, DeviceChoice::Kind::cpu);
  EXPECT_EQ(parse_device("cuda").ordinal, 0);
  EXPECT_EQ(parse_device("cuda:12").kind, DeviceChoice::Kind::gpu);
  EXPECT_EQ(parse_device("cuda:12").ordinal, 12);
  for (const char* text :
       {"", "tpu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999"}) {
    EXPECT_THAT([&] { parse_device(text); }, testing::ThrowsMessage<Error>(HasSubstr("cuda:N")));
  }
}

TEST_F(GpuReplayTest, OptionsThatMakeNoSenseAreRefused) {
  arguments_.device = parse_device("cpu");
  arguments_.collectives = Collectives::nccl;
  EXPECT_THAT(refusal(), HasSubstr("--collective is for GPUs"));
  arguments_.device = parse_device("cuda:3");
  arguments_.collectives = Collectives::automatic;
  EXPECT_THAT(refusal(), HasSubstr("no CUDA device 3"));
}

}  // namespace
}  // namespace preserve
