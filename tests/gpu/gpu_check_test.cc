// SPDX-License-Identifier: Apache-2.0
// The logic of scripts/gpu-check without a GPU.
#include "tests/gpu/gpu_check.h"
#include "tests/support/exits.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using test::GpuCheck;

TEST_F(GpuCheck, WithoutAGpuItSaysSo) {
  program("gpu_decode",
          "echo 'gpu_decode: no GPU: no CUDA-capable device is detected' >&2; exit 2");
  program("preserve-profile", "exit 0");
  EXPECT_THAT(check(), test::exits(2, testing::HasSubstr("no usable NVIDIA GPU")));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(GpuCheck, WithoutItsProgramsItSaysSo) {
  fs::remove(folder_ / "bundle/bin/gpu_decode");
  EXPECT_THAT(check(), test::exits(2, testing::HasSubstr("missing")));
}

TEST_F(GpuCheck, GoodRun) {
  play_gpu(1'020'000, 1'005'000);
  const test::Run run = expect(0, {{"GPU tests", "ok"},
                                   {"GPU device tests", "ok"},
                                   {"overhead, every graph node", "ok"},
                                   {"overhead, whole graphs", "ok"},
                                   {"trace of a graph decode loop", "ok"},
                                   {"counters", "ok"},
                                   {"PyTorch decode loop", "skipped"}});
  EXPECT_EQ(summary()["gpu"], "NVIDIA H100 Fake 9000");
  EXPECT_THAT(run.out, testing::ContainsRegex("GPU device tests +ok +2 +tests passed, 1 skipped"));
  EXPECT_THAT(run.out, testing::HasSubstr("2.00 %"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/overhead.csv"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/summary.csv"));
}

TEST_F(GpuCheck, DriversVersionOfBothKernelModules) {
  const std::pair<const char*, const char*> cases[] = {
      {"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
       "550.54.15"},
      {"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs)",
       "580.159.04"}};
  for (const auto& [text, version] : cases) {
    std::ofstream(folder_ / "driver") << text << "\nGCC version:  gcc version 12.3.0\n";
    ASSERT_EQ(check({"GPU_CHECK_DRIVER_FILE=" + (folder_ / "driver").string()}).exit_code, 0);
    EXPECT_EQ(summary()["driver"], version);
  }
}

TEST_F(GpuCheck, LibrariesOfPythonsWheelsAreUsed) {
  program("gpu_device_test", "echo \"[       OK ] ${PRESERVE_SITE_PACKAGES:-none}\"");
  const fs::path found = folder_ / "out/NVIDIA-H100-Fake-9000/gpu_device_test.txt";
  ASSERT_EQ(check().exit_code, 0);
  EXPECT_THAT(read_text_file(found), testing::HasSubstr("none"));
  program("python3", "case $2 in *nvidia*) echo /wheels ;; *) exit 1 ;; esac");
  ASSERT_EQ(check().exit_code, 0);
  EXPECT_THAT(read_text_file(found), testing::HasSubstr("/wheels"));
  ASSERT_EQ(check({"PRESERVE_SITE_PACKAGES=/mine"}).exit_code, 0);
  EXPECT_THAT(read_text_file(found), testing::HasSubstr("/mine"));
}

TEST_F(GpuCheck, TooMuchOverheadFails) {
  play_gpu(1'050'000, 1'005'000);
  expect(1, {{"overhead, every graph node", "FAILED"}, {"overhead, whole graphs", "ok"}});
}

TEST_F(GpuCheck, FailingTestsFail) {
  program("gpu_test", "echo '[  FAILED  ] Gpu.Something'; exit 1");
  expect(1, {{"GPU tests", "FAILED"}});
}

TEST_F(GpuCheck, CountersThatCannotBeTrueFail) {
  play_report(5 << 20);
  expect(1, {{"counters", "FAILED"}});
}

TEST_F(GpuCheck, ForbiddenCountersAreSkippedWithTheReason) {
  program(
      "preserve-profile",
      "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = --counters ] && echo "
      "'preserve: counters are not recorded: the driver allows them to administrators only' "
      ">&2; shift; done; shift; echo trace >\"$out\"; echo ', 640 operators,' >&2; exec \"$@\"");
  EXPECT_THAT(expect(0, {{"counters", "skipped"}}).out, testing::HasSubstr("administrators"));
}

// An overhead of nothing is no good news where nothing was recorded.
TEST_F(GpuCheck, ARecordingWithoutTheGpuIsNoSuccess) {
  program("python3", "exit 0");
  const auto all = [](const char* what) {
    return Results{
        {"overhead", what}, {"trace of a graph decode loop", what}, {"PyTorch decode loop", what}};
  };
  play_profiler("preserve: GPU activity is not recorded: no libcupti was found (...)");
  expect(0, all("skipped"));
  for (const char* says : {"preserve: GPU activity is not recorded: CUPTI refuses to start (999)",
                           "x.db: 1 processes, 9 ranges, 41 operators, 0 collectives"}) {
    SCOPED_TRACE(says);
    play_profiler(says);
    expect(1, all("FAILED"));
  }
}

TEST_F(GpuCheck, FailingDeviceTestsFail) {
  program("gpu_device_test",
          "echo '[  FAILED  ] Gpu.One (3 ms)'; echo '[  FAILED  ] Gpu.One'; exit 1");
  EXPECT_THAT(expect(1, {{"GPU tests", "ok"}}).out,
              testing::ContainsRegex("GPU device tests +FAILED +1 "));
}

// In place of timeout(1) stands one that ends the hanging program at once and notes the limit.
TEST_F(GpuCheck, HangingProgramEndsWithTheBudget) {
  program("gpu_test", "exec sleep 1000");
  program("timeout",
          "case $3 in */gpu_test) echo \"$2\" >\"${0%/*}/limit\"; "
          "exec /usr/bin/timeout 0.1 \"${@:3}\" ;; esac; exec \"${@:3}\"");
  expect(1, {{"GPU tests", "FAILED"}}, {"GPU_CHECK_BUDGET_S=77"});
  const double limit_s = std::stod(read_text_file(folder_ / "bundle/bin/limit"));
  EXPECT_GT(limit_s, 0);
  EXPECT_LE(limit_s, 77);
}

TEST_F(GpuCheck, TraceThatIsTooLargeIsNotKept) {
  play_profiler(", 640 operators,", "head -c 5000000 /dev/zero");
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_FALSE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/trace.db"));
}

TEST_F(GpuCheck, WithoutTheMeasuringToolsTheyAreSkipped) {
  expect(0, {{"calibration", "skipped"}, {"replay", "skipped"}, {"grid", "skipped"}});
}

TEST_F(GpuCheck, TargetsThatAreMet) {
  play_tools();
  const test::Run run =
      expect(0, {{"calibration", "ok"},
                 {"tuning by measurement", "ok"},
                 {"replay", "ok"},
                 {"replay of the recording", "ok"},
                 {"grid", "ok"},
                 {"target: baseline within 5 %", "ok"},
                 {"target: prediction within 3 points", "ok"},
                 {"target: 90 % of the saving realised", "ok"},
                 {"target: grid, no cell slower than 0.995x after the choice", "ok"}});
  for (const char* part :
       {"see grid.html", "3.00 TB/s", "1.030x", "[1.027, 1.033] FAST", "95.0", "2 of 8 cells"}) {
    EXPECT_THAT(run.out, testing::HasSubstr(part));
  }
  for (const char* file : {"device.json", "schedule.json", "model.db", "replay.db", "report.json",
                           "report.html", "grid.csv", "grid.json"}) {
    EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000" / file)) << file;
  }
}

TEST_F(GpuCheck, TargetsThatAreMissed) {
  const struct {
    const char* target;
    Findings findings;
    int missed = 1;
  } cases[] = {
      // The tools' tables are one: what the model's baseline misses, the recording's misses too.
      {"target: baseline within 5 %", {.fidelity = 1.06}, 2},
      {"target: baseline within 5 %", {.fidelity = 0}},
      {"target: prediction within 3 points", {.predicted = 1.07}},
      {"target: prediction within 3 points", {.predicted = 0.99}},
      {"target: 90 % of the saving realised", {.realised_ns = "50000"}},
      {"target: grid, fidelity of every cell within 5 %", {.grid_fidelity = 1.06}},
      {"target: grid, prediction of every plan within 3 points", {.grid_error = 0.031}}};
  for (const auto& each : cases) {
    play_gpu();
    play_tools(each.findings);
    expect(1, {{each.target, "missed"}}, {"GPU_CHECK_PAIRS=1"});
    int missed = 0;
    const nlohmann::json found = summary();
    for (const nlohmann::json& row : found["checks"]) missed += row["result"] == "missed";
    EXPECT_EQ(missed, each.missed) << each.target;
  }
}

TEST_F(GpuCheck, APlanThatDoesNothingHasNoSavingToRealise) {
  play_tools({.speedup = 1, .predicted = 1, .planned_ns = "0", .realised_ns = "0"});
  expect(0, {{"target: 90 % of the saving realised", "skipped"}});
}

TEST_F(GpuCheck, AReplayWithTooFewSamplesFails) {
  play_tools({.low = 0});
  expect(1, {{"replay", "FAILED"}, {"target: baseline within 5 %", "absent"}});
}

TEST_F(GpuCheck, WhatFailsSaysWhyAndTheRestGoesOn) {
  play_tools();
  program("preserve-tune", "echo 'preserve-tune: error: no such thing' >&2; exit 2");
  EXPECT_THAT(expect(1, {{"tuning by measurement", "FAILED"}, {"grid", "ok"}}).out,
              testing::HasSubstr("no such thing"));
  program("preserve-calibrate", "exit 3");
  expect(1, {{"calibration", "FAILED"}, {"grid", "skipped"}});
}

// A GPU without published figures is calibrated, and replays what was recorded on it.
TEST_F(GpuCheck, AnUnknownGpuReplaysItsRecordingOnly) {
  play_tools();
  fs::remove(folder_ / "bundle/examples/devices/h100-sxm.json");
  expect(0, {{"calibration", "ok"},
             {"replay", "skipped"},
             {"replay of the recording", "ok"},
             {"target: recording within 5 %", "ok"}});
  EXPECT_THAT(calls(), testing::Not(testing::HasSubstr("--published")));
}

TEST_F(GpuCheck, AGridThatRunsOutOfTimeKeepsItsCells) {
  play_tools();
  program("preserve-replay",
          "while [ $# -gt 0 ]; do case $1 in -o) out=$2 ;; --grid) grid=1 ;; esac; shift; done\n"
          "echo db >\"$out\"; [ -z \"$grid\" ] || exit 124");  // as timeout(1) says it
  EXPECT_THAT(expect(0, {{"grid", "ok"}}, {"GPU_CHECK_PAIRS=1"}).out,
              testing::HasSubstr("2 of 8 cells"));
}

TEST_F(GpuCheck, PlansAreAppliedToTheLoopsThemselves) {
  play_tools();
  play_loops();
  const std::vector<std::string> pairs{"GPU_CHECK_PAIRS=1"};
  Results results;
  for (const std::string name : {"applied", "PyTorch"}) {
    results.emplace_back(name + ": plan in the loop", "ok");
    for (const char* met : {": the same bits", ": null within 0.3 %",
                            " within 2 points of replayed", " within 3 points of predicted"}) {
      results.emplace_back("target: " + name + met, "ok");
    }
  }
  const test::Run run = expect(0, results, pairs);
  // Half of the steps 1,000,000 ns, a quarter 999,001, a quarter 970,874; all of them 1,012,000.
  EXPECT_THAT(run.out, testing::ContainsRegex("PyTorch: change of an arm +ok +39.1 us"));
  play_loops("bb");
  expect(
      1,
      {{"target: applied: the same bits", "missed"}, {"target: PyTorch: the same bits", "missed"}},
      pairs);
  play_loops();
  play_tools({.null = 1.004});
  expect(1, {{"target: PyTorch: null within 0.3 %", "missed"}}, pairs);
}

TEST_F(GpuCheck, ThePyTorchLoopSaysWhyItDoesNotRun) {
  const std::string loop = PRESERVE_SOURCE_DIR "/scripts/gpu-check-torch";
  const test::Run probe = test::run_program({PRESERVE_PYTHON, loop, "--probe"});
  if (probe.exit_code != 0) {  // it is 0 on a machine that has both
    EXPECT_THAT(probe, test::exits(77, testing::HasSubstr("skipped: ")));
  }
  EXPECT_THAT(test::run_program({PRESERVE_PYTHON, loop, "--steps", "-1"}),
              test::exits(2, testing::HasSubstr("bad usage")));
}

// The words that the scripts' fakes accept are words that the real tools have.
TEST_F(GpuCheck, TheRealToolsKnowTheOptions) {
  play_tools();
  play_loops();
  ASSERT_EQ(check({"GPU_CHECK_PAIRS=1"}).exit_code, 0);
  std::map<std::string, std::string> help;
  std::istringstream lines(calls());
  int options = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string tool;
    words >> tool;
    const bool grid = line.find("--grid") != std::string::npos;
    std::string& text = help[tool + (grid ? " grid" : "")];
    if (text.empty()) {
      std::vector<std::string> argv{PRESERVE_BIN_DIR "/" + tool, "--help"};
      if (grid) argv.insert(argv.begin() + 1, "--grid");
      text = test::run_program(argv).out;
    }
    for (std::string word; words >> word;) {
      if (word == "--") {  // the rest is for another tool
        break;
      }
      if (word[0] != '-' || word == "--grid") continue;
      EXPECT_THAT(text, testing::HasSubstr(word)) << line;
      ++options;
    }
  }
  EXPECT_GT(options, 20);
}

}  // namespace
}  // namespace preserve
