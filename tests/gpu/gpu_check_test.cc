// SPDX-License-Identifier: Apache-2.0
// The logic of scripts/gpu-check without a GPU: a bundle of shell scripts plays the tools.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/output_file.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

class GpuCheck : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "bundle/bin");
    fs::create_directories(folder_ / "bundle/scripts");
    fs::copy_file(PRESERVE_SOURCE_DIR "/scripts/gpu-check", folder_ / "bundle/scripts/gpu-check");
    program("python3", "exit 1");
  }
  void program(const std::string& name, const std::string& body) {
    const fs::path path = folder_ / "bundle/bin" / name.c_str();
    std::ofstream(path) << "#!/bin/bash\n" << body << "\n";
    fs::permissions(path, fs::perms::owner_all);
  }
  // A GPU whose steps last 1000 us, and `node_ns`, `graph_ns` when profiled.
  void play_gpu(int node_ns, int graph_ns) {
    program("gpu_decode",
            "[ \"$1\" = --probe ] && { echo '{\"gpu\":\"NVIDIA H100 Fake "
            "9000\",\"driver_cuda\":13000}'; exit; }\n"
            "echo \"{\\\"step_ns\\\":${FAKE_STEP_NS:-1000000}}\"");
    program("preserve-profile",
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = graph ] && graph=1; "
            "shift; done\n"
            "shift; echo trace >\"$out\"\n"
            "echo \"$out: 1 processes, 9 ranges, 640 operators, 0 collectives, 0 tensors, 40 "
            "steps\" >&2\n"
            "FAKE_STEP_NS=${graph:+" +
                std::to_string(graph_ns) +
                "}\n"
                "FAKE_STEP_NS=${FAKE_STEP_NS:-" +
                std::to_string(node_ns) + "} exec \"$@\"");
    program("gpu_test", "echo '[       OK ] Gpu.Something'");
    program("gpu_device_test",
            "echo '[       OK ] Gpu.One (3 ms)'; echo '[       OK ] Gpu.Two (3 ms)'\n"
            "echo '[  SKIPPED ] Gpu.Three (0 ms)'; echo '[  SKIPPED ] Gpu.Three'");
    play_report(32 << 20);
  }
  // A report in which a weight kernel reads `bytes` from DRAM.
  void play_report(int bytes) {
    program("preserve-report",
            "while [ \"$1\" != -o ]; do shift; done\n"
            "echo '{ \"counters\": [ {\"name\": \"gemm_stream(float4 const*)\", \"range\": \"\", "
            "\"count\": 80, \"dram_read_bytes\": {\"mean\": " +
                std::to_string(bytes) + ", \"min\": 1, \"max\": 2}}]}' >\"$2\"");
  }
  // What the measuring tools find. They write what they are asked for, and note how they were
  // called.
  struct Findings {
    double speedup = 1.03, low = 1.027, predicted = 1.05;  // low 0: too few samples
    double fidelity = 0.99;                                // 0: not known
    std::string planned_ns = "60000", realised_ns = "57000";
    double grid_fidelity = 0.99, grid_error = 0.01;
  };
  void play_tools() { play_tools(Findings()); }
  void play_tools(const Findings& found) {
    for (const char* file : {"devices/h100-sxm.json", "models/llama3-8b.json"}) {
      const fs::path path = folder_ / "bundle/examples" / file;
      fs::create_directories(path.parent_path());
      std::ofstream(path) << "{}";
    }
    const std::string outputs =
        "echo \"${0##*/} $*\" >>\"${0%/*}/calls\"; outputs=()\n"
        "while [ $# -gt 0 ]; do case $1 in -o|--trace-out) outputs+=(\"$2\"); shift ;; esac; "
        "shift; "
        "done\n";
    program("preserve-calibrate",
            outputs +
                "echo '{\"memory_bandwidth_bytes_per_s\": 3.0e12,' >\"${outputs[0]}\"\n"
                "echo ' \"cache_read_bandwidth_bytes_per_s\": 5500000000000.0}' "
                ">>\"${outputs[0]}\"");
    program("preserve-tune",
            outputs +
                "for file in \"${outputs[@]}\"; do echo '{\"plan\": {\"verdict\": \"prefetch\"}}' "
                ">\"$file\"; done");
    program("preserve-replay", outputs + "echo db >\"${outputs[0]}\"");
    nlohmann::json facts = nlohmann::json::array();
    for (const auto& [name, value] : {std::pair("predicted_saved_ns", found.planned_ns),
                                      {"realised_saved_ns", found.realised_ns},
                                      {"collective", "stand-in"}}) {
      facts.push_back({{"name", name}, {"value", value}});
    }
    nlohmann::json measured{{"facts", facts}, {"verdict", "FAST"}, {"speedup", nullptr}};
    if (found.low > 0) {
      measured["speedup"] = {{"low", found.low}, {"estimate", found.speedup}, {"high", 1.033}};
    }
    measured["fidelity"] = nullptr;
    if (found.fidelity > 0) measured["fidelity"] = {{"step", found.fidelity}};
    const nlohmann::json plan{{"verdict", "prefetch"},
                              {"predicted", {{"speedup", found.predicted}}}};
    const nlohmann::json report{
        {"counters", {{{"name", "gemm_stream"}, {"dram_read_bytes", {{"mean", 33554432}}}}}},
        {"scenarios", {{{"measured", measured}, {"plan", plan}}}}};
    std::ofstream(folder_ / "report.json") << report.dump();
    std::ofstream(folder_ / "grid.csv") << "model,dtype,ranks,batch,context,status\r\n"
                                           "m,fp16,8,1,2048,done\r\nm,fp16,8,8,2048,pending\r\n"
                                           "m,fp16,4,1,2048,done\r\n";
    std::ofstream(folder_ / "grid.json")
        << nlohmann::json{{"summary",
                           {{"done", 2},
                            {"fidelity_worst_cell", 1},
                            {"prediction_error_worst", found.grid_error},
                            {"realised_share", nullptr},
                            {"slowest_chosen", 1.0},
                            {"meant_cells", 2},
                            {"mean_chosen", {{"estimate", 1.02}}}}},
                          {"cells",
                           {{{"id", 1}, {"measured", {{"fidelity", found.grid_fidelity}}}},
                            {{"id", 2}, {"measured", nullptr}}}}};
    program(
        "preserve-report",
        outputs + fmt::format("for file in \"${{outputs[@]}}\"; do case ${{file##*/}} in grid.*) "
                              "cp '{0}/'${{file##*/}} \"$file\" ;; *) cp '{0}/report.json' "
                              "\"$file\" ;; esac; done",
                              folder_.path().string()));
    std::ofstream(folder_ / "grid.html") << "<html>";
  }
  std::string calls() const { return read_text_file(folder_ / "bundle/bin/calls"); }
  test::Run check(const std::vector<std::string>& environment = {}) {
    std::vector<std::string> all = environment;
    all.push_back("PATH=" + (folder_ / "bundle/bin").string() + ":/usr/bin:/bin");
    return test::run_program(
        {PRESERVE_PYTHON, folder_ / "bundle/scripts/gpu-check", "-o", folder_ / "out"}, all,
        folder_.path());
  }
  nlohmann::json summary() const {
    std::ifstream in(folder_ / "out/NVIDIA-H100-Fake-9000/summary.json");
    return nlohmann::json::parse(in);
  }
  static std::string result(const nlohmann::json& summary, const std::string& name) {
    for (const nlohmann::json& check : summary["checks"]) {
      if (check["check"] == name) return check["result"];
    }
    return "absent";
  }
  test::TemporaryDirectory folder_;
};

TEST_F(GpuCheck, WithoutAGpuItSaysSo) {
  program("gpu_decode",
          "echo 'gpu_decode: no GPU: no CUDA-capable device is detected' >&2; exit 2");
  program("preserve-profile", "exit 0");
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, testing::HasSubstr("no usable NVIDIA GPU"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(GpuCheck, WithoutItsProgramsItSaysSo) {
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, testing::HasSubstr("missing"));
}

TEST_F(GpuCheck, GoodRun) {
  play_gpu(1'020'000, 1'005'000);
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const nlohmann::json found = summary();
  EXPECT_EQ(found["gpu"], "NVIDIA H100 Fake 9000");
  EXPECT_EQ(result(found, "GPU tests"), "ok");
  EXPECT_EQ(result(found, "GPU device tests"), "ok");
  EXPECT_THAT(run.out, testing::ContainsRegex("GPU device tests +ok +2 +tests passed, 1 skipped"));
  EXPECT_EQ(result(found, "overhead, every graph node"), "ok");
  EXPECT_EQ(result(found, "overhead, whole graphs"), "ok");
  EXPECT_EQ(result(found, "trace of a graph decode loop"), "ok");
  EXPECT_EQ(result(found, "counters"), "ok");
  EXPECT_EQ(result(found, "PyTorch decode loop"), "skipped");
  EXPECT_THAT(run.out, testing::HasSubstr("2.00 %"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/overhead.csv"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/summary.csv"));
}

TEST_F(GpuCheck, DriversVersionOfBothKernelModules) {
  play_gpu(1'000'000, 1'000'000);
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
  play_gpu(1'000'000, 1'000'000);
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
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_EQ(result(summary(), "overhead, every graph node"), "FAILED");
  EXPECT_EQ(result(summary(), "overhead, whole graphs"), "ok");
}

TEST_F(GpuCheck, FailingTestsFail) {
  play_gpu(1'000'000, 1'000'000);
  program("gpu_test", "echo '[  FAILED  ] Gpu.Something'; exit 1");
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_EQ(result(summary(), "GPU tests"), "FAILED");
}

TEST_F(GpuCheck, CountersThatCannotBeTrueFail) {
  play_gpu(1'000'000, 1'000'000);
  play_report(5 << 20);
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_EQ(result(summary(), "counters"), "FAILED");
}

TEST_F(GpuCheck, ForbiddenCountersAreSkippedWithTheReason) {
  play_gpu(1'000'000, 1'000'000);
  program(
      "preserve-profile",
      "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = --counters ] && echo "
      "'preserve: counters are not recorded: the driver allows them to administrators only' "
      ">&2; shift; done; shift; echo trace >\"$out\"; echo ', 640 operators,' >&2; exec \"$@\"");
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_EQ(result(summary(), "counters"), "skipped");
  EXPECT_THAT(run.out, testing::HasSubstr("administrators"));
}

// An overhead of nothing is no good news where nothing was recorded.
TEST_F(GpuCheck, ARecordingWithoutTheGpuIsNoSuccess) {
  play_gpu(1'000'000, 1'000'000);
  const auto play_profiler = [this](const std::string& says) {
    program("preserve-profile",
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; shift; done; shift\n"
            "echo trace >\"$out\"; echo '" +
                says + "' >&2; exec \"$@\"");
  };
  program("python3", "exit 0");
  const char* rows[] = {"overhead", "trace of a graph decode loop", "PyTorch decode loop"};
  play_profiler("preserve: GPU activity is not recorded: no libcupti was found (...)");
  EXPECT_EQ(check().exit_code, 0);
  for (const char* row : rows) EXPECT_EQ(result(summary(), row), "skipped") << row;
  for (const char* says : {"preserve: GPU activity is not recorded: CUPTI refuses to start (999)",
                           "x.db: 1 processes, 9 ranges, 41 operators, 0 collectives"}) {
    play_profiler(says);
    EXPECT_EQ(check().exit_code, 1) << says;
    for (const char* row : rows) EXPECT_EQ(result(summary(), row), "FAILED") << row << says;
  }
}

TEST_F(GpuCheck, FailingDeviceTestsFail) {
  play_gpu(1'000'000, 1'000'000);
  program("gpu_device_test",
          "echo '[  FAILED  ] Gpu.One (3 ms)'; echo '[  FAILED  ] Gpu.One'; exit 1");
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, testing::ContainsRegex("GPU device tests +FAILED +1 "));
  EXPECT_EQ(result(summary(), "GPU tests"), "ok");
}

// In place of timeout(1) stands one that ends the hanging program at once and notes the limit.
TEST_F(GpuCheck, HangingProgramEndsWithTheBudget) {
  play_gpu(1'000'000, 1'000'000);
  program("gpu_test", "exec sleep 1000");
  program("timeout",
          "case $3 in */gpu_test) echo \"$2\" >\"${0%/*}/limit\"; "
          "exec /usr/bin/timeout 0.1 \"${@:3}\" ;; esac; exec \"${@:3}\"");
  const test::Run run = check({"GPU_CHECK_BUDGET_S=77"});
  EXPECT_EQ(run.exit_code, 1) << run.out;
  EXPECT_EQ(result(summary(), "GPU tests"), "FAILED");
  const double limit_s = std::stod(read_text_file(folder_ / "bundle/bin/limit"));
  EXPECT_GT(limit_s, 0);
  EXPECT_LE(limit_s, 77);
}

TEST_F(GpuCheck, TraceThatIsTooLargeIsNotKept) {
  play_gpu(1'000'000, 1'000'000);
  program("preserve-profile",
          "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; shift; done; shift\n"
          "head -c 5000000 /dev/zero >\"$out\"; echo ', 640 operators,' >&2; exec \"$@\"");
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_FALSE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000/trace.db"));
}

TEST_F(GpuCheck, WithoutTheMeasuringToolsTheyAreSkipped) {
  play_gpu(1'000'000, 1'000'000);
  EXPECT_EQ(check().exit_code, 0);
  EXPECT_EQ(result(summary(), "calibration"), "skipped");
  EXPECT_EQ(result(summary(), "replay"), "skipped");
  EXPECT_EQ(result(summary(), "grid"), "skipped");
}

TEST_F(GpuCheck, TargetsThatAreMet) {
  play_gpu(1'000'000, 1'000'000);
  play_tools();
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const nlohmann::json found = summary();
  for (const char* name :
       {"calibration", "tuning by measurement", "replay", "replay of the recording", "grid"}) {
    EXPECT_EQ(result(found, name), "ok") << name;
  }
  for (const char* name :
       {"baseline within 5 %", "prediction within 3 points", "90 % of the saving realised"}) {
    EXPECT_EQ(result(found, std::string("target: ") + name), "ok") << name;
  }
  EXPECT_EQ(result(found, "target: grid, no cell slower than 0.995x after the choice"), "ok");
  EXPECT_THAT(run.out, testing::HasSubstr("see grid.html"));
  EXPECT_THAT(run.out, testing::HasSubstr("3.00 TB/s"));
  EXPECT_THAT(run.out, testing::HasSubstr("1.030x"));
  EXPECT_THAT(run.out, testing::HasSubstr("[1.027, 1.033] FAST"));
  EXPECT_THAT(run.out, testing::HasSubstr("95.0"));
  EXPECT_THAT(run.out, testing::HasSubstr("2 of 8 cells"));
  for (const char* file : {"device.json", "schedule.json", "model.db", "replay.db", "report.json",
                           "report.html", "grid.csv", "grid.json"}) {
    EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-H100-Fake-9000" / file)) << file;
  }
}

TEST_F(GpuCheck, TargetsThatAreMissed) {
  const struct {
    const char* target;
    std::function<void(Findings&)> change;
    int missed = 1;
  } cases[] = {
      // The tools' tables are one: what the model's baseline misses, the recording's misses too.
      {"target: baseline within 5 %", [](Findings& found) { found.fidelity = 1.06; }, 2},
      {"target: baseline within 5 %", [](Findings& found) { found.fidelity = 0; }},
      {"target: prediction within 3 points", [](Findings& found) { found.predicted = 1.07; }},
      {"target: prediction within 3 points", [](Findings& found) { found.predicted = 0.99; }},
      {"target: 90 % of the saving realised", [](Findings& found) { found.realised_ns = "50000"; }},
      {"target: grid, fidelity of every cell within 5 %",
       [](Findings& found) { found.grid_fidelity = 1.06; }},
      {"target: grid, prediction of every plan within 3 points",
       [](Findings& found) { found.grid_error = 0.031; }}};
  for (const auto& each : cases) {
    play_gpu(1'000'000, 1'000'000);
    Findings findings;
    each.change(findings);
    play_tools(findings);
    const test::Run run = check({"GPU_CHECK_PAIRS=1"});
    EXPECT_EQ(run.exit_code, 1) << run.out;
    const nlohmann::json found = summary();
    int missed = 0;
    for (const nlohmann::json& row : found["checks"]) missed += row["result"] == "missed";
    EXPECT_EQ(missed, each.missed) << each.target;
    EXPECT_EQ(result(found, each.target), "missed") << run.out;
  }
}

TEST_F(GpuCheck, APlanThatDoesNothingHasNoSavingToRealise) {
  play_gpu(1'000'000, 1'000'000);
  Findings findings;
  findings.planned_ns = findings.realised_ns = "0";
  findings.predicted = findings.speedup = 1;
  play_tools(findings);
  EXPECT_EQ(check().exit_code, 0);
  EXPECT_EQ(result(summary(), "target: 90 % of the saving realised"), "skipped");
}

TEST_F(GpuCheck, AReplayWithTooFewSamplesFails) {
  play_gpu(1'000'000, 1'000'000);
  Findings findings;
  findings.low = 0;
  play_tools(findings);
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_EQ(result(summary(), "replay"), "FAILED");
  EXPECT_EQ(result(summary(), "target: baseline within 5 %"), "absent");
}

TEST_F(GpuCheck, WhatFailsSaysWhyAndTheRestGoesOn) {
  play_gpu(1'000'000, 1'000'000);
  play_tools();
  program("preserve-tune", "echo 'preserve-tune: error: no such thing' >&2; exit 2");
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(result(summary(), "tuning by measurement"), "FAILED");
  EXPECT_THAT(run.out, testing::HasSubstr("no such thing"));
  EXPECT_EQ(result(summary(), "grid"), "ok");
  program("preserve-calibrate", "exit 3");
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_EQ(result(summary(), "calibration"), "FAILED");
  EXPECT_EQ(result(summary(), "grid"), "skipped");
}

// A GPU without published figures is calibrated, and replays what was recorded on it.
TEST_F(GpuCheck, AnUnknownGpuReplaysItsRecordingOnly) {
  play_gpu(1'000'000, 1'000'000);
  play_tools();
  fs::remove(folder_ / "bundle/examples/devices/h100-sxm.json");
  EXPECT_EQ(check().exit_code, 0);
  EXPECT_EQ(result(summary(), "calibration"), "ok");
  EXPECT_EQ(result(summary(), "replay"), "skipped");
  EXPECT_EQ(result(summary(), "replay of the recording"), "ok");
  EXPECT_EQ(result(summary(), "target: recording within 5 %"), "ok");
  EXPECT_THAT(calls(), testing::Not(testing::HasSubstr("--published")));
}

TEST_F(GpuCheck, AGridThatRunsOutOfTimeKeepsItsCells) {
  play_gpu(1'000'000, 1'000'000);
  play_tools();
  program("preserve-replay",
          "while [ $# -gt 0 ]; do case $1 in -o) out=$2 ;; --grid) grid=1 ;; esac; shift; done\n"
          "echo db >\"$out\"; [ -z \"$grid\" ] || exit 124");  // as timeout(1) says it
  const test::Run run = check({"GPU_CHECK_PAIRS=1"});
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_EQ(result(summary(), "grid"), "ok");
  EXPECT_THAT(run.out, testing::HasSubstr("2 of 8 cells"));
}

// The words that the scripts' fakes accept are words that the real tools have.
TEST_F(GpuCheck, TheRealToolsKnowTheOptions) {
  play_gpu(1'000'000, 1'000'000);
  play_tools();
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
