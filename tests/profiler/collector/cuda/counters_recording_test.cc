// SPDX-License-Identifier: Apache-2.0
// Hardware counters recorded by the real collector from a fake CUPTI (fake_cupti.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/output_file.h"
#include "tests/profiler/collector/cuda/cuda_recording.h"
#include "tests/support/exits.h"

namespace preserve {
namespace {

// The fake's n-th kernel of the process reads n * 1000 bytes of DRAM and writes one more; of L2
// come n * 1000 + 2 and + 3 sectors.
constexpr const char* kCounted =
    "SELECT string.value, metric, CAST(counter.value AS INTEGER) FROM counter JOIN op ON op.id = "
    "op_id JOIN string ON string.id = op.name_id ORDER BY op.id, metric";

TEST_F(CudaCollector, CountersOfEachKernel) {
  const RecordedWell recorded({"counted", "2"}, {"--counters", "dram,l2"});
  EXPECT_THAT(
      recorded.rows(kCounted),
      testing::ElementsAre("gemm_kernel dram_read_bytes 1000", "gemm_kernel dram_write_bytes 1001",
                           "gemm_kernel l2_read_bytes 32064", "gemm_kernel l2_write_bytes 32096",
                           "gemm_kernel dram_read_bytes 3000", "gemm_kernel dram_write_bytes 3001",
                           "gemm_kernel l2_read_bytes 96064", "gemm_kernel l2_write_bytes 96096"));
  EXPECT_EQ(recorded.db().meta("counters"), "dram,l2");
  // Communication waits for other ranks, so it is left out, with a warning.
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("2 launches that communicate"));
  EXPECT_EQ(recorded.count("op"), 2);
  EXPECT_EQ(recorded.count("op WHERE range_id IS NOT NULL"), 2);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE kind NOT IN ('received', 'written')"), -1);
  EXPECT_EQ(recorded.loss("counters", "written"), 2);
}

TEST_F(CudaCollector, CountersOfOneGroup) {
  const Recorded recorded({"counted", "1"}, {"--counters", "l2"});
  EXPECT_THAT(recorded.rows(kCounted), testing::ElementsAre("gemm_kernel l2_read_bytes 32000",
                                                            "gemm_kernel l2_write_bytes 32032"));
  EXPECT_EQ(recorded.db().meta("counters"), "l2");
}

TEST_F(CudaCollector, CountersOfTheNodesOfAGraph) {
  const RecordedWell recorded({"graph", "2"}, {"--counters", "dram"});
  EXPECT_THAT(recorded.rows(
                  "SELECT range_name.value, CAST(counter.value AS INTEGER) FROM counter JOIN op ON "
                  "op.id = op_id JOIN range ON range.id = op.range_id JOIN string AS range_name ON "
                  "range_name.id = range.name_id WHERE metric = 'dram_read_bytes' ORDER BY op.id"),
              testing::ElementsAre("layers.0.mlp 1000", "layers.0.allreduce 2000",
                                   "layers.0.mlp 3000", "layers.0.allreduce 4000"));
  EXPECT_EQ(recorded.count("op WHERE graph_node_id IS NOT NULL"), 4);
  EXPECT_EQ(recorded.count("step"), 2);
}

TEST_F(CudaCollector, GraphWithMoreKernelsThanTheImageTakes) {
  const RecordedWell recorded({"graph", "2"}, {"--counters", "dram"}, {"FAKE_CUPTI=room=1"});
  EXPECT_EQ(recorded.count("counter"), 0);
  EXPECT_EQ(recorded.loss("counters", "dropped"), 2);
  EXPECT_EQ(recorded.loss("counters", "unmatched"), 2);
  EXPECT_EQ(recorded.unexplained("counters"), 0);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("as a whole only"));
}

TEST_F(CudaCollector, CountersOfACaptureRange) {
  const RecordedWell recorded({"profiler", "3"},
                              {"--counters", "dram", "--capture-range", "profiler"});
  EXPECT_EQ(recorded.count("counter WHERE metric = 'dram_read_bytes'"), 6);
  EXPECT_EQ(recorded.number("SELECT MIN(value) FROM counter"), 11'000);  // ten kernels before
  EXPECT_EQ(Recorded({"steps", "10"}, {"--counters", "l2", "--capture-range", "steps:4"})
                .count("counter WHERE metric = 'l2_read_bytes'"),
            3);
}

TEST_F(CudaCollector, CountersThatTheDriverForbids) {
  const Recorded recorded({"exit", "2"}, {"--counters", "dram,l2"}, {"FAKE_CUPTI=counters=35"});
  EXPECT_THAT(recorded.run,
              test::exits(7, testing::AllOf(
                                 testing::HasSubstr("counters are not recorded: the driver allows"),
                                 testing::HasSubstr("NVreg_RestrictProfilingToAdminUsers=0"))));
  const size_t first = recorded.run.err.find("counters are not recorded");
  EXPECT_EQ(recorded.run.err.find("counters are not recorded", first + 1), std::string::npos);
  EXPECT_EQ(recorded.count("counter"), 0);
  EXPECT_EQ(recorded.count("step"), 2);  // NVTX is still recorded
  EXPECT_THAT(recorded.facts(), testing::ElementsAre(testing::HasSubstr("administrators")));
}

TEST_F(CudaCollector, CountersThatFail) {
  for (const char* failure : {"initialize=999", "counters=999"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded({"exit", "2"}, {"--counters", "dram"},
                            {std::string("FAKE_CUPTI=") + failure});
    EXPECT_THAT(recorded.run, test::exits(7, testing::HasSubstr("counters are not recorded")));
    EXPECT_EQ(recorded.count("counter"), 0);
  }
  for (const char* failure : {"configure=1", "decode=999", "range_bytes=999999999"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded({"exit", "2"}, {"--counters", "dram"},
                            {std::string("FAKE_CUPTI=") + failure});
    EXPECT_EQ(recorded.run.exit_code, 7);
    EXPECT_EQ(recorded.loss("counters", "unreadable"), 2);
  }
}

TEST_F(CudaCollector, ChipsCountWhatTheyCan) {
  const Recorded none({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=UNKNOWN"});
  EXPECT_THAT(none.run,
              test::exits(0, testing::HasSubstr("this chip has no such counters (UNKNOWN")));
  const Recorded shared({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=NODRAM"});
  EXPECT_THAT(shared.rows("SELECT DISTINCT metric FROM counter ORDER BY 1"),
              testing::ElementsAre("l2_read_bytes", "l2_write_bytes"));
  EXPECT_THAT(shared.run.err, testing::HasSubstr("NODRAM has no dram_read_bytes"));
  const Recorded one_pass({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=TWOPASS"});
  EXPECT_THAT(one_pass.rows("SELECT DISTINCT metric FROM counter ORDER BY 1"),
              testing::ElementsAre("dram_read_bytes", "dram_write_bytes", "l2_read_bytes"));
}

TEST_F(CudaCollector, ThreadsAreCountedOneByOne) {
  const RecordedWell recorded({"threads"}, {"--counters", "dram"}, {});
  EXPECT_EQ(
      recorded.number("SELECT COUNT(DISTINCT value) FROM counter WHERE metric = 'dram_read_bytes'"),
      recorded.count("op"));
  EXPECT_EQ(recorded.unexplained("counters"), 0);
  // A communication kernel of another thread may run into a measurement, which is then void.
  EXPECT_GE(recorded.loss("counters", "received"), 2000);
}

TEST_F(CudaCollector, CountersAreNotPlannedFrom) {
  const RecordedWell recorded({"graph", "5"}, {"--counters", "dram,l2"});
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("preserve-report"));
  EXPECT_THAT(test::run_program({PRESERVE_BIN_DIR "/preserve-tune", recorded.trace, "--device",
                                 PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json", "-o",
                                 folder_ / "schedule.json"}),
              test::exits(2, testing::HasSubstr("recorded with --counters dram,l2")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "schedule.json"));
  const test::Run report = succeeded(test::run_program(
      {PRESERVE_BIN_DIR "/preserve-report", recorded.trace, "-o", folder_ / "report.md"}));
  const std::string text = read_text_file(folder_ / "report.md");
  EXPECT_THAT(text, testing::HasSubstr("| `gemm_kernel` | `layers.*.mlp` | 5 |"));
  EXPECT_THAT(text, testing::HasSubstr("no time here is the program's"));
  for (const char* name : {"report.json", "report.html"}) {  // json: checked against its schema
    succeeded(test::run_program(
        {PRESERVE_BIN_DIR "/preserve-report", recorded.trace, "-o", folder_ / name}));
  }
}

TEST_F(CudaCollector, CountersJoinARecordingOfTimes) {
  const RecordedWell counters({"graph", "5"}, {"--counters", "dram,l2"});
  const RecordedWell times({"graph", "7"});
  const test::TraceFile both{folder_ / "both.db"};
  const auto join = [&](const Recorded& trace, const Recorded& counted) {
    return test::run_program(
        {test::kProfile, "-f", "--add-counters", trace.trace, counted.trace, "-o", both.trace});
  };
  const test::Run run = succeeded(join(times, counters));
  EXPECT_THAT(run.err, testing::HasSubstr("14 of 14 GPU operators"));
  const std::string ops = "SELECT id, start_ns, end_ns FROM op ORDER BY id";
  EXPECT_EQ(both.rows(ops), times.rows(ops));
  // Five replays of two kernels, the n-th of which moves n * 1000 bytes: on average 5000 and 6000.
  EXPECT_THAT(
      both.rows(
          "SELECT DISTINCT string.value, counter.value FROM counter JOIN op ON op.id = op_id JOIN "
          "string ON string.id = name_id WHERE metric = 'dram_read_bytes' ORDER BY 1, 2"),
      testing::ElementsAre("gemm_kernel 5000.0",
                           "ncclDevKernel_AllReduce_Sum_bf16_RING_LL 6000.0"));
  EXPECT_EQ(both.count("meta WHERE key = 'counters'"), 0);
  EXPECT_EQ(both.count("step"), 7);
  // What does not fit is refused, and nothing is written.
  std::filesystem::remove(both.trace);
  EXPECT_EQ(join(counters, times).exit_code, 2);
  EXPECT_EQ(join(counters, counters).exit_code, 2);
  EXPECT_EQ(join(times, times).exit_code, 2);
  EXPECT_THAT(join(RecordedWell({"steps", "3"}), counters),  // other ranges
              test::exits(2, testing::HasSubstr("none of the 6 GPU operators")));
  EXPECT_FALSE(std::filesystem::exists(both.trace));
}

TEST_F(CudaCollector, WrongCountersAreUsageErrors) {
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{{"--counters", "l3"},
                                             {"--counters", ""},
                                             {"--counters", "dram,"},
                                             {"--counters", "dram,dram"},
                                             {"--counters", "dram", "--cuda", "off"},
                                             {"--counters", "dram", "--cuda-hw-trace"},
                                             {"--counters", "l2", "--cuda-graphs", "graph"}}) {
    const Recorded recorded({"steps"}, options);
    EXPECT_THAT(recorded.run, test::exits(2, testing::HasSubstr("--counters"))) << options[1];
  }
}

}  // namespace
}  // namespace preserve
