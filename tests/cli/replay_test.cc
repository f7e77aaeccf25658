// SPDX-License-Identifier: Apache-2.0
// The real preserve-replay with two ranks under mpirun. Nothing here asserts a speed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/output_file.h"
#include "db/replay_result.h"
#include "db/trace_db.h"
#include "tests/replay/step/simple_schedule.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::string kReplay = PRESERVE_BIN_DIR "/preserve-replay";

class ReplayCli : public testing::Test {
 protected:
  ReplayCli() {
    spec_.layers = 2;
    spec_.steps = 4;
    spec_.lm_head_bytes = 1 << 20;
    record();
  }

  // A recording and a schedule for it.
  void record(const std::function<void(TraceDb&)>& tweak = {}) const {
    test::write_synthetic_trace(trace_, spec_, tweak);
    test::write_simple_schedule(schedule_, trace_);
  }

  // Oversubscribed: the tests run on whatever machine there is.
  test::Run replay(const test::Words& more = {}, const std::string& output = "replay.db",
                   const test::Words& environment = {}) const {
    return test::run_program(test::words(kReplay, trace_, schedule_, "-o", output, "--time-limit",
                                         "300ms", "--oversubscribe", "--color", "never", more),
                             test::words(environment, test::kNoLeakCheck), directory_.path());
  }

  // Behind mpirun, not before it.
  test::Run replay_on(int ranks, const test::Words& more) const {
    return test::run_program(test::mpirun(ranks, test::words(kReplay, trace_, schedule_, "-o",
                                                             "replay.db", more, "--oversubscribe")),
                             test::kMpi, directory_.path());
  }

  TraceDb replay_db() const { return TraceDb::open(directory_ / "replay.db"); }

  test::Words leftovers() const {
    test::Words names = test::names_in(directory_.path());
    std::erase_if(names, [](const std::string& name) {
      return name == "trace.db" || name == "schedule.json";
    });
    return names;
  }

  test::SyntheticTrace spec_;
  test::TemporaryDirectory directory_;
  std::filesystem::path trace_ = directory_ / "trace.db";
  std::filesystem::path schedule_ = directory_ / "schedule.json";
};

TEST_F(ReplayCli, MeasuresAllArmsAndKeepsItsBooks) {
  const test::Run run = succeeded(replay({"--candidates"}));
  EXPECT_THAT(run.out, HasSubstr("baseline"));
  EXPECT_THAT(run.err, HasSubstr("next: preserve-report"));

  const TraceDb db = replay_db();
  EXPECT_THAT(test::rows(db, "SELECT name FROM arm ORDER BY id"),
              testing::ElementsAre("baseline", "prefetch", "null", "useless", "hot", "prefetch-1"));
  const auto count = [&](const char* sql) { return db.query_integer(sql).value_or(-1); };
  EXPECT_EQ(count("SELECT count(*) FROM sample WHERE discarded IS NULL") +
                count("SELECT count(*) FROM sample WHERE discarded IS NOT NULL"),
            count("SELECT sum(count) FROM loss WHERE source = 'replay' AND kind = 'received'"));
  EXPECT_EQ(count("SELECT count(*) FROM sample WHERE discarded IS NULL"),
            count("SELECT sum(count) FROM loss WHERE source = 'replay' AND kind = 'written'"));
  EXPECT_EQ(count("SELECT count(*) FROM sample WHERE pair = 0 AND discarded IS NOT 'warm-up'"), 0);
  EXPECT_EQ(count("SELECT count(*) FROM sample WHERE step_ns <= 0"), 0);
  EXPECT_EQ(count("SELECT count(*) FROM process"), 2);
  EXPECT_EQ(count("SELECT count(*) FROM step WHERE source = 'replay'"), 2 * 6);
  EXPECT_EQ(count("SELECT count(*) FROM op WHERE end_ns < start_ns"), 0);
  for (const char* key : {"trace_sha256", "schedule_sha256", "checksum", "device_name"}) {
    EXPECT_THAT(db.meta(key), Not(IsEmpty())) << key;
  }
  const ReplayResult result = read_result(db);
  EXPECT_GT(result.recorded_step_ns, 0);
  EXPECT_THAT(result.winner, Not(IsEmpty()));
  if (result.arms[1].pairs > 0) {  // a busy machine may count none
    EXPECT_EQ(count("SELECT count(DISTINCT rank) FROM arm_op"), 2);
    EXPECT_TRUE(result.fidelity);
    EXPECT_THAT(run.out, HasSubstr("fidelity"));
    EXPECT_TRUE(result.arms[1].speedup);
  }
  EXPECT_EQ(db.meta("kind"), "replay");
  EXPECT_EQ(db.meta("collective"), "mpi");
  EXPECT_EQ(db.meta("via"), "progress");  // as preserve-apply does, and calibration
  EXPECT_EQ(db.meta("schedule_sha256"), sha256_of_file(schedule_));
}

TEST_F(ReplayCli, TheLinkIsLabelledEverywhere) {
  test::write_simple_schedule(schedule_, trace_, {.link_latency_ns = 50'000, .wrap = true});
  EXPECT_THAT(succeeded(replay({"--link", "50us"})).out, HasSubstr("with a 50 us stand-in link"));
  const TraceDb db = replay_db();
  EXPECT_EQ(db.meta("collective"), "mpi+link");
  EXPECT_EQ(read_result(db).link_latency_ns, 50'000);
}

TEST_F(ReplayCli, AnotherLinkThanTheSchedulesIsRefused) {
  EXPECT_THAT(replay({"--link", "50us"}),
              test::exits(2, AllOf(HasSubstr("50.00 us"), HasSubstr("no link"))));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(ReplayCli, ADoNothingScheduleShowsTheNoise) {
  test::write_simple_schedule(schedule_, trace_, {.bytes_per_window = 0});
  EXPECT_THAT(replay(), test::exits(0, HasSubstr("fetches nothing")));
}

TEST_F(ReplayCli, WhatTheRecordingLacksIsSaidFirst) {
  record([](TraceDb& db) {
    db.add_loss({}, "nvtx", "dropped", 7);
    db.set_meta("incomplete", "1");
  });
  const test::Run run = succeeded(replay());
  const size_t lost = run.err.find("dropped");
  ASSERT_NE(lost, std::string::npos) << run.err;
  EXPECT_LT(lost, run.err.find("measuring"));
}

TEST_F(ReplayCli, ASpareCoreCanFetch) {
  test::write_simple_schedule(schedule_, trace_, {.placement = "spare"});
  succeeded(replay());
  EXPECT_EQ(replay_db().meta("cores_per_rank"), "2");
}

// The plan fetches on its own core, its rivals on a spare one, before and after the collective has
// started, each with another kind of request.
TEST_F(ReplayCli, EveryPlanIsIssuedItsOwnWay) {
  Schedule schedule = test::simple_schedule(trace_, {.link_latency_ns = 4'000'000});
  schedule.candidates.push_back(schedule.plan);
  schedule.candidates[0].method = IssueMethod{"prefetcht1", "spare", 512, 0, "normal", "before"};
  schedule.candidates[1].method =
      IssueMethod{"prefetcht0_paced", "spare", 65536, 0, "normal", "after"};
  std::ofstream(schedule_) << to_json(schedule);
  // A spare core that ranks use as well may never get its turn.
  std::vector<std::string> arms{"prefetch"};
  if (std::thread::hardware_concurrency() >= 4) arms = {"prefetch", "prefetch-1", "prefetch-2"};
  std::vector<std::string> uncounted, idle;
  for (int attempt = 0; attempt < 5; ++attempt) {  // nor one that others use for the moment
    succeeded(replay({"-f", "--candidates"}));
    const TraceDb db = replay_db();
    EXPECT_EQ(db.meta("cores_per_rank"), "2");
    EXPECT_EQ(db.meta("placement"), "consumer");
    uncounted.clear();
    idle.clear();
    for (const std::string& arm : arms) {
      const ArmResult found = *read_result(db).find_arm(arm);
      if (found.pairs == 0) {
        uncounted.push_back(arm);
      } else if (found.issued_bytes <= 0) {
        idle.push_back(arm);
      }
    }
    if (uncounted.empty() && idle.empty()) break;
  }
  EXPECT_THAT(idle, IsEmpty());
  if (!uncounted.empty()) {
    GTEST_SKIP() << "the machine is so busy that no pair of " << uncounted[0] << " was counted";
  }
}

TEST_F(ReplayCli, TheRecordedTransportIsUsed) {
  record([](TraceDb& db) {
    db.add_env(ProcessId{*db.query_integer("SELECT id FROM process WHERE rank = 0")},
               "OMPI_MCA_mpi_warn_on_fork", "0");
  });
  EXPECT_THAT(replay(), test::exits(0, HasSubstr("as recorded: OMPI_MCA_mpi_warn_on_fork=0")));
}

TEST_F(ReplayCli, WordsBehindTwoDashesAreForMpirun) {
  const test::Run version = replay({"--", "--version"});
  EXPECT_THAT(version.out, HasSubstr("mpirun"));
  succeeded(replay({"--", "-x", "PRESERVE_TEST", "--mca", "no_such_parameter", "1"}));
  EXPECT_THAT(
      replay({"stray"}),
      test::exits(2, HasSubstr("unexpected argument stray: options for mpirun go behind --")));
}

TEST_F(ReplayCli, JoinsALauncher) {
  succeeded(replay_on(2, {"--time-limit", "200ms"}));
  EXPECT_EQ(read_result(replay_db()).ranks, 2);
}

TEST_F(ReplayCli, TheWrongNumberOfRanksIsRefused) {
  EXPECT_THAT(replay_on(1, {}),
              test::exits(2, HasSubstr("recorded with 2 ranks, but 1 were started")));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(ReplayCli, AScheduleOfAnotherTraceIsRefused) {
  spec_.layers = 3;
  test::write_synthetic_trace(trace_, spec_);
  EXPECT_THAT(replay(), test::exits(2, HasSubstr("schedule.json")));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(ReplayCli, AnUnknownTensorIsRefused) {
  std::string text = read_text_file(schedule_);
  const std::string name = "mlp.gate_up.weight";
  ASSERT_NE(text.find(name), std::string::npos);
  text.replace(text.find(name), name.size(), "mlp.no_such.weight");
  std::ofstream(schedule_) << text;
  EXPECT_THAT(replay(), test::exits(2, HasSubstr("mlp.no_such.weight")));
}

TEST_F(ReplayCli, TooManyRanksNeedLeave) {
  spec_.ranks = 64;
  spec_.steps = 3;
  record();
  EXPECT_THAT(test::run_program({kReplay, trace_.string(), schedule_.string(), "-o", "replay.db"},
                                {}, directory_.path()),
              test::exits(2, testing::AnyOf(HasSubstr("--oversubscribe"), HasSubstr("memory"))));
}

TEST_F(ReplayCli, ALoneRankNeedsNoMpi) {
  spec_.ranks = 1;
  record();
  succeeded(replay({}, "replay.db", {"PATH=/nonexistent"}));
  const TraceDb db = replay_db();
  EXPECT_EQ(read_result(db).ranks, 1);
  EXPECT_EQ(db.meta("mpi_library"), "no MPI");
}

TEST_F(ReplayCli, WhereMpiCannotBeLoadedItNamesThePackage) {
  const std::filesystem::path bin = directory_ / "elsewhere/bin";
  const std::filesystem::path lib = directory_ / "elsewhere/lib/preserve";
  std::filesystem::create_directories(bin);
  std::filesystem::create_directories(lib);
  std::filesystem::copy_file(kReplay, bin / "preserve-replay");
  const auto rank_of_a_launcher = [&] {
    return test::run_program({(bin / "preserve-replay").string(), trace_.string(),
                              schedule_.string(), "-o", "replay.db"},
                             {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2", test::kNoLeakCheck},
                             directory_.path());
  };
  EXPECT_THAT(rank_of_a_launcher(), test::exits(2, HasSubstr("libpreserve_mpi.so is missing")));
  std::ofstream(lib / "libpreserve_mpi.so") << "loads as little as one whose libmpi is missing";
  EXPECT_THAT(rank_of_a_launcher(), test::exits(2, HasSubstr("install openmpi-bin")));
}

TEST_F(ReplayCli, WithoutMpirunItSaysSo) {
  EXPECT_THAT(replay({}, "replay.db", {"PATH=/nonexistent"}),
              test::exits(2, HasSubstr("openmpi-bin")));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(ReplayCli, AnExistingOutputNeedsForce) {
  std::ofstream(directory_ / "replay.db") << "mine";
  EXPECT_EQ(replay().exit_code, 2);
  EXPECT_EQ(read_text_file(directory_ / "replay.db"), "mine");
  succeeded(replay({"-f"}));
}

TEST_F(ReplayCli, AnInputIsNeverTheOutput) {
  std::ofstream(directory_ / "device.json") << "{}";
  for (const char* input : {"trace.db", "schedule.json", "device.json"}) {
    const std::string before = read_text_file(directory_ / input);
    EXPECT_THAT(replay({"-f", "--device-file", "device.json"}, input),
                test::exits(2, HasSubstr("is an input")))
        << input;
    EXPECT_EQ(read_text_file(directory_ / input), before) << input;
  }
}

TEST_F(ReplayCli, WithoutAGpuItSaysSo) {
  const std::string no_gpu = "CUDA_VISIBLE_DEVICES=-1";
  for (const std::vector<std::string>& asked :
       {std::vector<std::string>{"--device", "cuda:0"},
        {"--device", "cuda", "--collective", "stand-in", "--allow-device-mismatch"}}) {
    EXPECT_THAT(
        replay(asked, "replay.db", {no_gpu}),
        test::exits(2, AllOf(HasSubstr("preserve-replay: error:"),
                             HasSubstr("--device cpu replays on the cores of this machine"))));
    EXPECT_THAT(leftovers(), IsEmpty());
  }
  record([](TraceDb& db) {
    db.add(DeviceRow{.host = "host", .kind = "gpu", .name = "NVIDIA H100 80GB HBM3"});
  });
  EXPECT_EQ(replay({}, "replay.db", {no_gpu}).exit_code, 2) << "it was recorded on a GPU";
  EXPECT_EQ(replay({"--device", "cpu"}, "replay.db", {no_gpu}).exit_code, 0);
  EXPECT_EQ(replay_db().meta("executor"), "cpu");
}

TEST_F(ReplayCli, BadOptionsAreRefusedBeforeTheRun) {
  for (const std::vector<std::string>& bad : {std::vector<std::string>{"--fail-if", "faster=3"},
                                              {"--fail-if", "slower=x"},
                                              {"--time-limit", "0"},
                                              {"--time-limit", "5"},
                                              {"--link", "-5us"},
                                              {"--device", "tpu"},
                                              {"--device", "cuda:1x"},
                                              {"--collective", "gloo"},
                                              {"--device", "cpu", "--collective", "nccl"},
                                              {"--device-file", "no-such.json"},
                                              {"surplus"}}) {
    EXPECT_THAT(replay(bad), test::exits(2, HasSubstr("preserve-replay: error:"))) << bad[0];
    EXPECT_THAT(leftovers(), IsEmpty());
  }
}

TEST_F(ReplayCli, ALinkThatNoTimeLimitAllowsIsRefused) {
  test::write_simple_schedule(schedule_, trace_, {.link_latency_ns = 3'600'000'000'000});
  EXPECT_THAT(replay(), test::exits(2, HasSubstr("invalid --time-limit 300.00 ms")));
  EXPECT_THAT(leftovers(), IsEmpty());
}

TEST_F(ReplayCli, FailIfIsAboutTheMeasuredSpeedup) {
  // 99 % slower never happens; on a busy machine too few pairs may count.
  const test::Run run = replay({"--fail-if", "slower=99%"});
  if (!undecided_reason(read_result(replay_db())).empty()) {
    EXPECT_THAT(run, test::exits(1, HasSubstr("check failed: not decided")));
  } else {
    EXPECT_EQ(run.exit_code, 0) << run.err;
  }
}

}  // namespace
}  // namespace preserve
