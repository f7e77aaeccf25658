// SPDX-License-Identifier: Apache-2.0
// What only a GPU can show: real CUPTI records of a real program. Skipped where there is none. Runs
// from the build tree and from the bundle: the programs are next to this one, or in ../bin.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/rows.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

std::string tool(const char* name) {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  for (const fs::path& folder : {here, here / "../bin"}) {
    if (fs::exists(folder / name)) return (folder / name).string();
  }
  return name;
}

class Gpu : public testing::Test, protected test::TraceFile {
 protected:
  void SetUp() override {
    const test::Run probe = test::run_program({tool("gpu_decode"), "--probe"});
    if (probe.exit_code == 2) GTEST_SKIP() << "no GPU: " << probe.err;
    ASSERT_EQ(probe.exit_code, 0) << probe.err;
  }
  void profile(const std::vector<std::string>& options, const std::vector<std::string>& arguments) {
    trace = folder_ / "trace.db";
    const test::Run run =
        succeeded(test::run_program(test::words(tool("preserve-profile"), "-f", "-o", trace,
                                                options, "--", tool("gpu_decode"), arguments)));
    EXPECT_EQ(run.err.find("GPU activity is not recorded"), std::string::npos) << run.err;
  }
  int64_t lost() const {
    return number(
        "SELECT IFNULL(SUM(count), 0) FROM loss WHERE source IN ('cupti', 'cupti_buffers') "
        "AND kind NOT IN ('received', 'written')");
  }

  test::TemporaryDirectory folder_;
};

constexpr const char* kKernels =
    "SELECT COUNT(*) FROM op JOIN string ON string.id = op.name_id WHERE "
    "string.value LIKE '%gemm_stream%'";

TEST_F(Gpu, EagerKernelsAreCompleteAndInTheirRanges) {
  profile({}, {"--eager", "--steps", "30", "--layers", "4"});
  EXPECT_EQ(number(kKernels), 50 * 4);  // 20 warm-up steps
  EXPECT_EQ(lost(), 0);
  EXPECT_EQ(count("step"), 50);
  EXPECT_EQ(count("op JOIN stream ON stream.id = stream_id WHERE stream.kind = 'gpu' AND op.kind = "
                  "'compute' AND range_id IS NULL"),
            0);
}

TEST_F(Gpu, GraphNodesKnowTheRangesOfTheirCapture) {
  profile({}, {"--steps", "30", "--layers", "4"});
  EXPECT_EQ(number(kKernels), 50 * 4);
  EXPECT_EQ(lost(), 0);
  EXPECT_EQ(operators_in("layers.2.mlp"), 50);
  EXPECT_EQ(count("collective"), 50 * 4);
}

TEST_F(Gpu, CaptureRangeKnowsGraphsFromBefore) {
  profile({"--capture-range", "profiler"}, {"--steps", "10", "--layers", "4"});
  EXPECT_EQ(number(kKernels), 10 * 4);
  EXPECT_EQ(operators_in("layers.0.mlp"), 10);
}

TEST_F(Gpu, WholeGraphsAreOneOperatorEach) {
  profile({"--cuda-graphs", "graph"}, {"--steps", "10", "--layers", "4"});
  EXPECT_EQ(count("op JOIN string ON string.id = op.name_id WHERE string.value = 'CUDA graph'"),
            30);
}

constexpr const char* kCounted =
    "SELECT COUNT(*) FROM counter JOIN op ON op.id = op_id JOIN string ON string.id = op.name_id "
    "WHERE string.value LIKE '%gemm_stream%' AND metric = 'dram_read_bytes'";
// 256 MiB of weights in turn are more than any L2 holds: a kernel reads its 32 MiB from memory.
constexpr const char* kPlausible = " AND value BETWEEN 0.8 * 33554432 AND 1.5 * 33554432";

TEST_F(Gpu, CountersOfKernelsAndOfGraphNodes) {
  for (const char* how : {"--eager", "--layers"}) {
    SCOPED_TRACE(how);
    std::vector<std::string> arguments{"--steps", "3", "--layers", "8", "--weight-mib", "32"};
    if (std::string(how) == "--eager") arguments.emplace_back(how);
    profile({"--counters", "dram,l2", "--capture-range", "profiler"}, arguments);
    const TraceDb recorded = db();
    Query facts = recorded.query("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'");
    if (facts.next() && facts.text(0).find("administrators") != std::string_view::npos) {
      GTEST_SKIP() << "the driver allows counters to administrators only";
    }
    EXPECT_EQ(number(kCounted), 3 * 8);
    EXPECT_GE(number(fmt::format("{}{}", kCounted, kPlausible)), 3 * 8 - 1);
  }
}

TEST_F(Gpu, TimesLieWithinTheRecording) {
  profile({}, {"--steps", "10", "--layers", "2"});
  EXPECT_EQ(count("op, process WHERE op.start_ns < process.start_ns OR op.end_ns > process.end_ns"),
            0);
}

}  // namespace
}  // namespace preserve
