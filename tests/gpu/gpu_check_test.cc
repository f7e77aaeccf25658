// SPDX-License-Identifier: Apache-2.0
// The logic of scripts/gpu-check without a GPU: a bundle of shell scripts plays the tools.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

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
            "[ \"$1\" = --probe ] && { echo '{\"gpu\":\"NVIDIA Fake "
            "9000\",\"driver_cuda\":13000}'; exit; }\n"
            "echo \"{\\\"step_ns\\\":${FAKE_STEP_NS:-1000000}}\"");
    program("preserve-profile",
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = graph ] && graph=1; "
            "shift; done\n"
            "shift; echo trace >\"$out\"\n"
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
  test::Run check(const std::vector<std::string>& environment = {}) {
    std::vector<std::string> all = environment;
    all.push_back("PATH=" + (folder_ / "bundle/bin").string() + ":/usr/bin:/bin");
    return test::run_program(
        {"/bin/bash", folder_ / "bundle/scripts/gpu-check", "-o", folder_ / "out"}, all,
        folder_.path());
  }
  nlohmann::json summary() const {
    std::ifstream in(folder_ / "out/NVIDIA-Fake-9000/summary.json");
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
  EXPECT_EQ(found["gpu"], "NVIDIA Fake 9000");
  EXPECT_EQ(result(found, "GPU tests"), "ok");
  EXPECT_EQ(result(found, "GPU device tests"), "ok");
  EXPECT_THAT(run.out, testing::ContainsRegex("GPU device tests +ok +2 +tests passed, 1 skipped"));
  EXPECT_EQ(result(found, "overhead, every graph node"), "ok");
  EXPECT_EQ(result(found, "overhead, whole graphs"), "ok");
  EXPECT_EQ(result(found, "trace of a graph decode loop"), "ok");
  EXPECT_EQ(result(found, "counters"), "ok");
  EXPECT_EQ(result(found, "PyTorch decode loop"), "skipped");
  EXPECT_THAT(run.out, testing::HasSubstr("2.00 %"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-Fake-9000/overhead.csv"));
  EXPECT_TRUE(fs::exists(folder_ / "out/NVIDIA-Fake-9000/summary.csv"));
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
  program("preserve-profile",
          "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = --counters ] && echo "
          "'preserve: counters are not recorded: the driver allows them to administrators only' "
          ">&2; shift; done; shift; echo trace >\"$out\"; exec \"$@\"");
  const test::Run run = check();
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_EQ(result(summary(), "counters"), "skipped");
  EXPECT_THAT(run.out, testing::HasSubstr("administrators"));
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

TEST_F(GpuCheck, HangingProgramEndsWithTheBudget) {
  play_gpu(1'000'000, 1'000'000);
  program("gpu_test", "sleep 60");
  const test::Run run = check({"GPU_CHECK_BUDGET_S=3"});
  EXPECT_EQ(run.exit_code, 1) << run.out;
  EXPECT_EQ(result(summary(), "GPU tests"), "FAILED");
}

TEST_F(GpuCheck, TraceThatIsTooLargeIsNotKept) {
  play_gpu(1'000'000, 1'000'000);
  program("preserve-profile",
          "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; shift; done; shift\n"
          "head -c 5000000 /dev/zero >\"$out\"; exec \"$@\"");
  EXPECT_EQ(check().exit_code, 1);
  EXPECT_FALSE(fs::exists(folder_ / "out/NVIDIA-Fake-9000/trace.db"));
}

}  // namespace
}  // namespace preserve
