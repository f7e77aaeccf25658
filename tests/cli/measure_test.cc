// SPDX-License-Identifier: Apache-2.0
// preserve-tune --measure from the outside: with the real preserve-replay, and with stand-ins for
// it that fail in every way. Nothing here asserts a speed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"
#include "tests/support/commands.h"
#include "tests/support/devices.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using test::names_in;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

DeviceModel box() {
  DeviceModel device = test::cpu_device();
  device.slowdown_per_byte_ns = 0;
  PrefetchMethod other = device.methods[0];
  other.name = "prefetcht1";
  other.bandwidth_bytes_per_s = 14e9;
  device.methods.push_back(other);
  return device;
}

class MeasureCli : public testing::Test {
 protected:
  MeasureCli() {
    test::write_synthetic_trace(directory_ / "trace.db", {.layers = 2, .lm_head_bytes = 1 << 20});
    write_device(box());
    fs::create_directory(directory_ / "tmp");
  }

  void write_device(const DeviceModel& device) {
    std::ofstream(directory_ / "device.json") << to_json(device);
  }

  // The tool next to a preserve-replay that is this script.
  void stand_in(const std::string& script) {
    const fs::path bin = directory_ / "bin";
    fs::create_directory(bin);
    fs::copy_file(tool_, bin / "preserve-tune");
    std::ofstream(bin / "preserve-replay") << "#!/bin/sh\n" << script << "\n";
    fs::permissions(bin / "preserve-replay", fs::perms::owner_all);
    tool_ = bin / "preserve-tune";
  }

  // After the options come those of preserve-replay.
  test::Run measure(const test::Words& options = {},
                    const test::Words& replay_words = {"--oversubscribe"}) const {
    return test::run_program(
        test::words(tool_, "trace.db", "--device", "device.json", "--measure", "--link", "100us",
                    "--rounds", "1", "--color", "never", options, "--", replay_words),
        {test::kNoLeakCheck, "TMPDIR=" + (directory_ / "tmp").string()}, directory_.path());
  }

  void expect_nothing_left(const test::Run& run) const {
    EXPECT_THAT(names_in(directory_ / "tmp"), IsEmpty());
    EXPECT_FALSE(fs::exists(directory_ / "schedule.json"));
    EXPECT_THAT(run.out, IsEmpty());
  }
  void expect_refused(const test::Run& run, const std::string& message) const {
    EXPECT_THAT(run,
                test::exits(2, AllOf(HasSubstr("preserve-tune: error: "), HasSubstr(message))));
    expect_nothing_left(run);
  }

  test::TemporaryDirectory directory_;
  fs::path tool_ = PRESERVE_BIN_DIR "/preserve-tune";
};

TEST_F(MeasureCli, EveryPlanIsMeasuredAndRecorded) {
  const test::Run run = succeeded(measure({"--measure-time", "1s", "--keep-replays", "kept"}));
  EXPECT_THAT(run.err, AllOf(HasSubstr("replay 1: measuring"), HasSubstr("next: preserve-replay")));
  EXPECT_THAT(run.out, HasSubstr("95 % interval"));
  EXPECT_THAT(names_in(directory_ / "tmp"), IsEmpty());
  EXPECT_THAT(names_in(directory_ / "kept"),
              testing::IsSupersetOf({"replay-1.db", "schedule-1.json"}));

  const Schedule schedule = load_schedule(directory_ / "schedule.json");
  EXPECT_THAT(schedule.candidates, Not(IsEmpty()));
  bool other_method = false;
  for (const Plan& plan : schedule.candidates) {
    EXPECT_TRUE(plan.measured.has_value());
    other_method = other_method || plan.method.has_value();
  }
  EXPECT_TRUE(other_method);
  ASSERT_THAT(schedule.plan.reasons, Not(IsEmpty()));
  EXPECT_THAT(schedule.plan.reasons.back(),
              testing::AnyOf(HasSubstr("measured"), HasSubstr("too few pairs")));
  EXPECT_EQ(schedule.plan.verdict == PlanVerdict::prefetch, schedule.plan.measured.has_value());
  EXPECT_EQ(schedule.trace_sha256, sha256_of_file(directory_ / "trace.db"));

  // The same files again need leave.
  fs::remove(directory_ / "schedule.json");
  EXPECT_THAT(measure({"--measure-time", "1s", "--keep-replays", "kept"}),
              test::exits(2, HasSubstr("schedule-1.json")));
}

TEST_F(MeasureCli, WhatReplayRefusesIsRefused) {
  expect_refused(measure({}, {"--no-such-option"}), "preserve-replay cannot measure this: ");
  DeviceModel gpu = box();
  gpu.methods[0].name = "bulk_l2";
  write_device(gpu);
  expect_refused(measure(), "bulk_l2");
}

TEST_F(MeasureCli, AReplayThatDiesIsReported) {
  stand_in("kill -KILL $$");
  expect_refused(measure(), "preserve-replay was ended by signal 9");
}

TEST_F(MeasureCli, AReplayThatWritesNothingIsReported) {
  stand_in("exit 0");
  expect_refused(measure(), "replay-1.db");
}

TEST_F(MeasureCli, AnInternalErrorOfReplayIsOne) {
  stand_in("echo 'preserve-replay: error: ranks disagree' >&2; exit 3");
  const test::Run run = measure();
  EXPECT_THAT(run, test::exits(3, HasSubstr("ranks disagree")));
  expect_nothing_left(run);
}

TEST_F(MeasureCli, WithoutReplayInItsFolderItIsRefused) {
  stand_in("");
  fs::remove(directory_ / "bin/preserve-replay");
  expect_refused(measure(), "installed in the same folder");
}

// The stand-in interrupts us and then does not end by itself.
TEST_F(MeasureCli, AnInterruptEndsTheReplayAndLeavesNothing) {
  stand_in("kill -INT $PPID; exec sleep 1000");
  const test::Run run = measure();
  EXPECT_EQ(run.exit_code, 130);
  expect_nothing_left(run);
}

TEST_F(MeasureCli, ReplayGetsItsTimeAndItsOptions) {
  stand_in("echo \"$@\" > arguments; echo 'a remark' >&2; exit 2");
  test::Run run = measure({"--measure-time", "30s"}, {"--collective", "nccl"});
  EXPECT_THAT(run, test::exits(2, testing::ContainsRegex("cannot measure this: a remark")));
  EXPECT_THAT(read_text_file(directory_ / "arguments"),
              AllOf(HasSubstr("trace.db"), HasSubstr("--candidates"),
                    HasSubstr("--time-limit 15000000000ns"), HasSubstr("--collective nccl")));
  run = measure({"-v"});
  EXPECT_THAT(run.err, HasSubstr("\na remark\n"));  // as it came
}

TEST_F(MeasureCli, OptionsThatDoNotGoTogetherAreRefused) {
  expect_refused(measure({"--dimacs", "flow.min"}), "--dimacs");
  expect_refused(measure({"--measure-time", "0"}), "--measure-time");
  const auto tune = [&](const test::Words& more) {
    return test::run_program(test::words(tool_, "trace.db", "--device", "device.json", more), {},
                             directory_.path());
  };
  expect_refused(tune({"--", "--oversubscribe"}), "--measure");
  expect_refused(tune({"--measure-time", "3s"}), "--measure-time requires --measure");
  expect_refused(tune({"--rounds", "3"}), "--rounds requires --measure");
  expect_refused(tune({"--no-such-option"}), "unknown option --no-such-option");
  expect_refused(tune({"another.db"}), "not expected: another.db");
  EXPECT_THAT(tune({"--rounds", "0"}).exit_code, 2);
}

TEST_F(MeasureCli, WithNothingToMeasureNothingIsReplayed) {
  stand_in("touch replayed; exit 2");
  succeeded(measure({"--strategy", "none"}));
  EXPECT_FALSE(fs::exists(directory_ / "replayed"));
  EXPECT_EQ(load_schedule(directory_ / "schedule.json").plan.verdict, PlanVerdict::do_nothing);
}

}  // namespace
}  // namespace preserve
