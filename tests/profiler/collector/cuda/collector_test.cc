// SPDX-License-Identifier: Apache-2.0
// The real collector in real processes, with a fake CUPTI (fake_cupti.h): capture ranges, graphs,
// ways to end, ways to fail. Where the real libcupti is there but no driver, its refusal is a test
// too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "db/trace_db.h"
#include "profiler/capture_range.h"
#include "tests/profiler/collector/cuda/kill_log.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

class CudaCollector : public testing::Test {
 protected:
  struct Recorded {
    test::Run run;
    std::string trace;
    std::vector<std::string> rows(const std::string& sql) const {
      const TraceDb db = TraceDb::open(trace);
      std::vector<std::string> out;
      Query query = db.query(sql);
      while (query.next()) out.emplace_back(query.text(0));
      return out;
    }
    int64_t number(const std::string& sql) const {
      return TraceDb::open(trace).query_integer(sql).value_or(-1);
    }
    int64_t kernels() const {
      return number(
          "SELECT COUNT(*) FROM op JOIN stream ON stream.id = stream_id "
          "WHERE stream.kind = 'gpu'");
    }
  };

  Recorded record(const std::vector<std::string>& scenario,
                  const std::vector<std::string>& options = {},
                  std::vector<std::string> environment = {}) {
    Recorded recorded;
    recorded.trace = folder_ / "trace.db";
    std::filesystem::remove(recorded.trace);  // nothing of an earlier run is taken for this one's
    std::vector<std::string> argv{PRESERVE_BIN_DIR "/preserve-profile", "-f", "-o", recorded.trace};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.insert(argv.end(), {"--", PRESERVE_CUDA_PLAYER});
    argv.insert(argv.end(), scenario.begin(), scenario.end());
    environment.push_back("PRESERVE_CUPTI=" PRESERVE_FAKE_CUPTI);
    recorded.run = test::run_program(argv, environment);
    return recorded;
  }

  test::TemporaryDirectory folder_;
};

TEST_F(CudaCollector, EveryKernelWithItsRangeAndCall) {
  const Recorded recorded = record({"steps", "3"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 6);
  EXPECT_THAT(
      recorded.rows(
          "SELECT op.kind || ' ' || range_name.value FROM op "
          "JOIN range ON range.id = op.range_id "
          "JOIN string AS range_name ON range_name.id = range.name_id ORDER BY op.id LIMIT 2"),
      testing::ElementsAre("compute decode_step", "collective decode_step"));
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 3);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE kind NOT IN ('received', 'written')"), -1);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op WHERE step_id IS NOT NULL"), 6);
  // A host range is a place in the program, not an operator beside the kernels.
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op"), 6);
}

TEST_F(CudaCollector, GraphReplaysKnowWhatWasCaptured) {
  const Recorded recorded = record({"graph", "4"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 8);
  EXPECT_EQ(
      recorded.number("SELECT COUNT(*) FROM op JOIN range ON range.id = op.range_id JOIN string ON "
                      "string.id = range.name_id WHERE string.value = 'layers.0.mlp'"),
      4);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 4);
}

TEST_F(CudaCollector, GraphCapturedBeforeTheRangeIsKnownInside) {
  const Recorded recorded = record({"profiler", "3"}, {"--capture-range", "profiler"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 6);
  EXPECT_EQ(
      recorded.number("SELECT COUNT(*) FROM op JOIN range ON range.id = op.range_id JOIN string ON "
                      "string.id = range.name_id WHERE string.value = 'layers.0.allreduce'"),
      3);
}

TEST_F(CudaCollector, EveryNthStep) {
  EXPECT_EQ(record({"steps", "10"}, {"--capture-range", "steps:4"}).kernels(), 6);
  EXPECT_EQ(record({"steps", "5"}, {"--capture-range", "steps:2:decode*"}).kernels(), 6);
}

TEST_F(CudaCollector, RangeByName) {
  EXPECT_EQ(record({"steps", "2"}, {"--capture-range", "nvtx:decode_step"}).kernels(), 4);
  EXPECT_EQ(record({"steps", "2"}, {"--capture-range", "nvtx:other"}).kernels(), 0);
  EXPECT_EQ(record({"started", "3"}, {"--capture-range", "nvtx:request"}).kernels(), 6);
  EXPECT_EQ(record({"steps", "2"}, {"--capture-range", "time:3600s"}).kernels(), 0);
}

TEST_F(CudaCollector, OffMeansOff) {
  const Recorded recorded = record({"steps", "2"}, {"--cuda", "off"});
  EXPECT_EQ(recorded.kernels(), 0);
  EXPECT_EQ(recorded.run.err.find("GPU activity"), std::string::npos);
}

TEST_F(CudaCollector, WithoutParametersNothingElseIsLost) {
  EXPECT_EQ(record({"graph", "2"}, {"--params", "off"}).kernels(), 4);
}

TEST_F(CudaCollector, ThreadsAtOnce) {
  const Recorded recorded = record({"threads"}, {}, {"PRESERVE_CUDA_BUFFER_BYTES=65536"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 4000);
}

TEST_F(CudaCollector, BuffersHaveAFixedBudget) {
  // One buffer of 64 KiB holds 303 kernels; the writer may or may not be in time for the rest, but
  // what found no room is counted and the program goes on. Before 12.9 CUPTI has to be given one.
  for (const char* version : {"FAKE_CUPTI=version=26", "FAKE_CUPTI=version=27"}) {
    SCOPED_TRACE(version);
    const Recorded recorded =
        record({"threads"}, {"--flush-period", "10s"},
               {"PRESERVE_CUDA_BUFFER_BYTES=65536", "PRESERVE_CUDA_BUFFERS=1", version});
    ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
    const int64_t kernels = recorded.kernels();
    const int64_t lost = recorded.number(
        "SELECT IFNULL(SUM(count), 0) FROM loss WHERE source = 'cupti_buffers' AND kind = "
        "'dropped'");
    EXPECT_GE(kernels, 1);
    EXPECT_TRUE(kernels == 4000 || lost > 0) << kernels << " kernels, " << lost << " buffers lost";
  }
}

TEST_F(CudaCollector, ExitCodeIsTheProgramsOwn) {
  const Recorded recorded = record({"exit", "2"});
  EXPECT_EQ(recorded.run.exit_code, 7);
  EXPECT_EQ(recorded.kernels(), 4);
}

TEST_F(CudaCollector, SignalWithoutHandlerIsFlushedFirst) {
  const Recorded recorded = record({"terminate", "5"}, {"--flush-period", "60s"});
  EXPECT_EQ(recorded.run.exit_code, 128 + SIGTERM) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 10);
}

TEST_F(CudaCollector, KilledProcessLosesAtMostAFlushPeriod) {
  const Recorded recorded = record({"kill", "5"}, {"--flush-period", "50ms"});
  EXPECT_EQ(recorded.run.exit_code, 128 + SIGKILL);
  EXPECT_EQ(recorded.kernels(), 10);
  EXPECT_EQ(recorded.number("SELECT SUM(complete = 0) FROM process"), 1);
}

// Killed at random moments: the trace is always readable, holds no kernel that was not launched and
// none twice, and everything up to a few flushes before the end. (The flush before the last one is
// the promise; a busy machine is given some more.)
TEST_F(CudaCollector, KilledAtAnyMoment) {
  constexpr unsigned kRuns = 24;
  constexpr uint64_t kSlackFlushes = 6;
  int64_t recorded_in_all = 0;
  for (unsigned seed = 1; seed <= kRuns; ++seed) {
    SCOPED_TRACE(seed);
    const std::string file = folder_ / ("log" + std::to_string(seed)).c_str();
    const Recorded recorded =
        record({"randomly_killed", std::to_string(seed), file}, {"--flush-period", "20ms"},
               {seed % 3 == 0 ? "PRESERVE_CUDA_BUFFER_BYTES=65536" : "PRESERVE_NOTHING=1"});
    ASSERT_EQ(recorded.run.exit_code, 128 + SIGKILL) << recorded.run.err;
    KillLog log{};
    std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(&log), sizeof(log));
    const int64_t kernels = recorded.kernels();
    recorded_in_all += kernels;
    // A replay runs two kernels under one number.
    EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM (SELECT DISTINCT correlation_id, "
                              "graph_node_id FROM op JOIN stream ON stream.id = stream_id "
                              "WHERE stream.kind = 'gpu')"),
              kernels);
    EXPECT_LE(kernels, static_cast<int64_t>(log.launched));
    if (log.flushes > kSlackFlushes) {
      EXPECT_GE(kernels + recorded.number("SELECT IFNULL(SUM(count), 0) FROM loss WHERE source IN "
                                          "('cupti', 'cupti_buffers') AND kind = 'dropped'"),
                static_cast<int64_t>(log.launched_before[log.flushes - kSlackFlushes]));
    }
    EXPECT_EQ(recorded.number("SELECT SUM(complete = 0) FROM process"), 1);
    EXPECT_EQ(recorded.number("SELECT IFNULL(SUM(CASE kind WHEN 'received' THEN count ELSE -count "
                              "END), 0) FROM loss WHERE source = 'cupti'"),
              0);
  }
  EXPECT_GT(recorded_in_all, 1000);
}

// As in a program that does not bring libcupti itself: the collector loads it, so libcupti's exit
// handlers stand behind those of the program, and the last flush has to come before them.
TEST_F(CudaCollector, LastFlushComesBeforeTheEndOfLibcupti) {
  const std::string trace = folder_ / "injected.db";
  const test::Run run = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "-o", trace, "--", PRESERVE_INJECTED, "5"},
      {"PRESERVE_CUPTI=" PRESERVE_FAKE_CUPTI});
  EXPECT_EQ(run.exit_code, 5) << run.err;
  EXPECT_THAT(run.err, testing::Not(testing::HasSubstr("flushed after the end")));
}

// Graphs are instantiated at start-up, where CUPTI has to know already that they will be traced.
TEST_F(CudaCollector, WholeGraphsInARangeThatOpensBehindTheirInstantiation) {
  const Recorded recorded =
      record({"profiler", "3"}, {"--capture-range", "profiler", "--cuda-graphs", "graph"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 3);
  EXPECT_EQ(recorded.number("SELECT SUM(count) FROM loss WHERE source = 'cupti' AND kind = "
                            "'received'"),
            3);
  EXPECT_EQ(record({"graph", "4"}, {"--cuda-graphs", "graph"}).kernels(), 4);
  EXPECT_EQ(
      record({"graph", "4"}, {"--cuda-graphs", "graph", "--capture-range", "nvtx:no"}).kernels(),
      0);
}

TEST_F(CudaCollector, WhatCuptiDoesNotRecordIsSaid) {
  const Recorded recorded = record({"steps", "2"}, {}, {"FAKE_CUPTI=copies=14"});
  EXPECT_EQ(recorded.kernels(), 4);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("CUPTI does not record copies"));
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'"),
              testing::ElementsAre(testing::HasSubstr("CUPTI does not record copies")));
}

TEST_F(CudaCollector, WarningsOfCuptiAreSaidOnce) {
  const Recorded recorded = record({"warning"});
  EXPECT_EQ(recorded.kernels(), 2);
  const std::string& err = recorded.run.err;
  const size_t first = err.find("no room for device buffers");
  ASSERT_NE(first, std::string::npos) << err;
  EXPECT_EQ(err.find("no room for device buffers", first + 1), std::string::npos) << err;
}

TEST_F(CudaCollector, BufferThatCannotBeReadOnIsCounted) {
  const Recorded recorded = record({"incomplete"});
  EXPECT_EQ(recorded.kernels(), 2);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("1 of 3 GPU records unreadable"));
}

// On either clock of CUPTI a kernel lies where it was launched.
TEST_F(CudaCollector, EveryVersionOfCuptiTellsTheSameTimes) {
  for (const char* version : {"version=17", "version=22", "version=28", "version=130200"}) {
    SCOPED_TRACE(version);
    const Recorded recorded = record({"steps", "3"}, {}, {std::string("FAKE_CUPTI=") + version});
    EXPECT_EQ(recorded.kernels(), 6);
    EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op JOIN range ON range.id = op.range_id WHERE "
                              "op.start_ns BETWEEN range.start_ns AND range.end_ns"),
              6);
  }
}

TEST_F(CudaCollector, HardwareTraceIsAskedForWhenTheDriverIsReady) {
  const Recorded recorded = record({"steps", "2"}, {"--cuda-hw-trace"});
  EXPECT_EQ(recorded.kernels(), 4);
  EXPECT_THAT(recorded.run.err, testing::Not(testing::HasSubstr("hardware trace")));
  EXPECT_THAT(record({"unready", "2"}, {"--cuda-hw-trace"}).run.err,
              testing::HasSubstr("no hardware trace: the driver was never said to be ready"));
}

TEST_F(CudaCollector, ForkedChildIsNotRecordedAndLives) {
  const Recorded recorded = record({"fork"});
  EXPECT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 6);
}

TEST_F(CudaCollector, AnotherSubscriberIsNamed) {
  const Recorded recorded = record({"steps", "2"}, {}, {"FAKE_CUPTI=subscribe=39"});
  EXPECT_EQ(recorded.run.exit_code, 0);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("another profiler holds CUPTI (nsys)"));
  EXPECT_EQ(recorded.kernels(), 0);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 2);  // NVTX is still recorded
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'"),
              testing::ElementsAre(testing::HasSubstr("nsys")));
}

TEST_F(CudaCollector, ErrorsOfCuptiLeaveTheProgramAlone) {
  for (const char* failure : {"subscribe=999", "enable=8"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded = record({"exit", "2"}, {}, {std::string("FAKE_CUPTI=") + failure});
    EXPECT_EQ(recorded.run.exit_code, 7) << recorded.run.err;
    EXPECT_THAT(recorded.run.err, testing::HasSubstr("GPU activity is not recorded"));
    EXPECT_EQ(recorded.kernels(), 0);
  }
}

TEST_F(CudaCollector, FatalStateEndsTheRecordingOnly) {
  const Recorded recorded = record({"fatal"});
  EXPECT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'"),
              testing::ElementsAre(testing::HasSubstr("the device fell off")));
}

TEST_F(CudaCollector, NoLibcuptiIsOneLine) {
  const std::string trace = folder_ / "none.db";
  const test::Run run = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "-o", trace, "--", PRESERVE_CUDA_PLAYER, "exit", "1"},
      {"PRESERVE_CUPTI=/nowhere/libcupti.so.13"});
  EXPECT_EQ(run.exit_code, 7);
  EXPECT_TRUE(std::filesystem::exists(trace));
}

// Two toolkits on one machine: the generation decides, then the place. (Without a driver the newest
// counts as its generation.)
TEST_F(CudaCollector, LibcuptiOfTheDriversGenerationIsFoundBehindAnotherOne) {
  if (!std::filesystem::exists(PRESERVE_REAL_CUPTI)) GTEST_SKIP() << "no libcupti on this machine";
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "this machine has a driver";
  const std::filesystem::path home(folder_ / "cuda");
  std::filesystem::create_directories(home / "extras/CUPTI/lib64");
  std::filesystem::create_directories(home / "lib64");
  std::filesystem::create_symlink(PRESERVE_REAL_CUPTI, home / "extras/CUPTI/lib64/libcupti.so.12");
  std::filesystem::create_symlink(PRESERVE_FAKE_CUPTI, home / "lib64/libcupti.so.13");
  const test::Run run = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "-o", folder_ / "t.db", "--", PRESERVE_INJECTED, "5"},
      {"CUDA_HOME=" + home.string(), "PRESERVE_CUPTI="});
  EXPECT_EQ(run.exit_code, 5) << run.err;
  EXPECT_THAT(run.err, testing::Not(testing::HasSubstr("GPU activity is not recorded")));
}

TEST_F(CudaCollector, RealLibcuptiWithoutADriver) {
  if (!std::filesystem::exists(PRESERVE_REAL_CUPTI)) GTEST_SKIP() << "no libcupti on this machine";
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "this machine has a driver";
  const std::string trace = folder_ / "real.db";
  // `true`-like: a program that loads the collector as libcuda would, but no fake library.
  const test::Run run = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "-o", trace, "--", PRESERVE_INJECTED, "5"},
      {"PRESERVE_CUPTI=" PRESERVE_REAL_CUPTI});
  EXPECT_EQ(run.exit_code, 5) << run.err;
  EXPECT_THAT(run.err, testing::HasSubstr("GPU activity is not recorded: CUPTI refuses to start"));
  EXPECT_THAT(run.err, testing::HasSubstr("999"));
}

// The fake's n-th kernel of the process reads n * 1000 bytes of DRAM and writes one more; of L2
// come n * 1000 + 2 and + 3 sectors.
constexpr const char* kCounted =
    "SELECT string.value || ' ' || metric || ' ' || CAST(counter.value AS INTEGER) FROM counter "
    "JOIN op ON op.id = op_id JOIN string ON string.id = op.name_id ORDER BY op.id, metric";

TEST_F(CudaCollector, CountersOfEachKernel) {
  const Recorded recorded = record({"counted", "2"}, {"--counters", "dram,l2"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_THAT(
      recorded.rows(kCounted),
      testing::ElementsAre("gemm_kernel dram_read_bytes 1000", "gemm_kernel dram_write_bytes 1001",
                           "gemm_kernel l2_read_bytes 32064", "gemm_kernel l2_write_bytes 32096",
                           "gemm_kernel dram_read_bytes 3000", "gemm_kernel dram_write_bytes 3001",
                           "gemm_kernel l2_read_bytes 96064", "gemm_kernel l2_write_bytes 96096"));
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key = 'counters'"),
              testing::ElementsAre("dram,l2"));
  // Communication waits for other ranks, so it is left out, and that is said.
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("2 launches that communicate"));
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op"), 2);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op WHERE range_id IS NOT NULL"), 2);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE kind NOT IN ('received', 'written')"), -1);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE source = 'counters' AND kind = 'written'"),
      2);
}

TEST_F(CudaCollector, CountersOfOneGroup) {
  const Recorded recorded = record({"counted", "1"}, {"--counters", "l2"});
  EXPECT_THAT(recorded.rows(kCounted), testing::ElementsAre("gemm_kernel l2_read_bytes 32000",
                                                            "gemm_kernel l2_write_bytes 32032"));
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key = 'counters'"),
              testing::ElementsAre("l2"));
}

TEST_F(CudaCollector, CountersOfTheNodesOfAGraph) {
  const Recorded recorded = record({"graph", "2"}, {"--counters", "dram"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_THAT(
      recorded.rows("SELECT range_name.value || ' ' || CAST(counter.value AS INTEGER) FROM counter "
                    "JOIN op ON op.id = op_id JOIN range ON range.id = op.range_id "
                    "JOIN string AS range_name ON range_name.id = range.name_id "
                    "WHERE metric = 'dram_read_bytes' ORDER BY op.id"),
      testing::ElementsAre("layers.0.mlp 1000", "layers.0.allreduce 2000", "layers.0.mlp 3000",
                           "layers.0.allreduce 4000"));
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM op WHERE graph_node_id IS NOT NULL"), 4);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 2);
}

TEST_F(CudaCollector, GraphWithMoreKernelsThanTheImageTakes) {
  const Recorded recorded = record({"graph", "2"}, {"--counters", "dram"}, {"FAKE_CUPTI=room=1"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM counter"), 0);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE source = 'counters' AND kind = 'dropped'"),
      2);
  EXPECT_EQ(recorded.number(
                "SELECT SUM(count) FROM loss WHERE source = 'counters' AND kind = 'unmatched'"),
            2);
  EXPECT_EQ(
      recorded.number("SELECT SUM(CASE kind WHEN 'received' THEN count ELSE -count END) FROM loss "
                      "WHERE source = 'counters'"),
      0);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("as a whole only"));
}

TEST_F(CudaCollector, CountersOfACaptureRange) {
  const Recorded recorded =
      record({"profiler", "3"}, {"--counters", "dram", "--capture-range", "profiler"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM counter WHERE metric = 'dram_read_bytes'"), 6);
  EXPECT_EQ(recorded.number("SELECT MIN(value) FROM counter"), 11'000);  // ten kernels before
  EXPECT_EQ(record({"steps", "10"}, {"--counters", "l2", "--capture-range", "steps:4"})
                .number("SELECT COUNT(*) FROM counter WHERE metric = 'l2_read_bytes'"),
            3);
}

TEST_F(CudaCollector, CountersThatTheDriverForbids) {
  const Recorded recorded =
      record({"exit", "2"}, {"--counters", "dram,l2"}, {"FAKE_CUPTI=counters=35"});
  EXPECT_EQ(recorded.run.exit_code, 7);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("counters are not recorded: the driver allows"));
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("NVreg_RestrictProfilingToAdminUsers=0"));
  const size_t first = recorded.run.err.find("counters are not recorded");
  EXPECT_EQ(recorded.run.err.find("counters are not recorded", first + 1), std::string::npos);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM counter"), 0);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 2);  // NVTX is still recorded
  EXPECT_THAT(recorded.rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'"),
              testing::ElementsAre(testing::HasSubstr("administrators")));
}

TEST_F(CudaCollector, CountersThatFail) {
  for (const char* failure : {"initialize=999", "counters=999"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded =
        record({"exit", "2"}, {"--counters", "dram"}, {std::string("FAKE_CUPTI=") + failure});
    EXPECT_EQ(recorded.run.exit_code, 7);
    EXPECT_THAT(recorded.run.err, testing::HasSubstr("counters are not recorded"));
    EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM counter"), 0);
  }
  for (const char* failure : {"configure=1", "decode=999", "range_bytes=999999999"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded =
        record({"exit", "2"}, {"--counters", "dram"}, {std::string("FAKE_CUPTI=") + failure});
    EXPECT_EQ(recorded.run.exit_code, 7);
    EXPECT_EQ(recorded.number(
                  "SELECT SUM(count) FROM loss WHERE source = 'counters' AND kind = 'unreadable'"),
              2);
  }
}

TEST_F(CudaCollector, ChipsCountWhatTheyCan) {
  const Recorded none = record({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=UNKNOWN"});
  EXPECT_EQ(none.run.exit_code, 0);
  EXPECT_THAT(none.run.err, testing::HasSubstr("this chip has no such counters (UNKNOWN"));
  const Recorded shared = record({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=NODRAM"});
  EXPECT_THAT(shared.rows("SELECT DISTINCT metric FROM counter ORDER BY 1"),
              testing::ElementsAre("l2_read_bytes", "l2_write_bytes"));
  EXPECT_THAT(shared.run.err, testing::HasSubstr("NODRAM has no dram_read_bytes"));
  const Recorded one_pass =
      record({"counted", "1"}, {"--counters", "dram,l2"}, {"FAKE_CHIP=TWOPASS"});
  EXPECT_THAT(one_pass.rows("SELECT DISTINCT metric FROM counter ORDER BY 1"),
              testing::ElementsAre("dram_read_bytes", "dram_write_bytes", "l2_read_bytes"));
}

TEST_F(CudaCollector, ThreadsAreCountedOneByOne) {
  const Recorded recorded = record({"threads"}, {"--counters", "dram"}, {});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_EQ(recorded.number("SELECT COUNT(DISTINCT value) FROM counter "
                            "WHERE metric = 'dram_read_bytes'"),
            recorded.number("SELECT COUNT(*) FROM op"));
  EXPECT_EQ(
      recorded.number("SELECT SUM(CASE kind WHEN 'received' THEN count ELSE -count END) FROM loss "
                      "WHERE source = 'counters'"),
      0);
  // A communication kernel of another thread may run into a measurement, which is then void.
  EXPECT_GE(recorded.number("SELECT SUM(count) FROM loss WHERE source = 'counters' "
                            "AND kind = 'received'"),
            2000);
}

TEST_F(CudaCollector, CountersAreNotPlannedFrom) {
  const Recorded recorded = record({"graph", "5"}, {"--counters", "dram,l2"});
  ASSERT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("preserve-report"));
  const test::Run tune = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-tune", recorded.trace, "--device",
       PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json", "-o", folder_ / "schedule.json"});
  EXPECT_EQ(tune.exit_code, 2);
  EXPECT_THAT(tune.err, testing::HasSubstr("recorded with --counters dram,l2"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "schedule.json"));
  const test::Run report = test::run_program(
      {PRESERVE_BIN_DIR "/preserve-report", recorded.trace, "-o", folder_ / "report.md"});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  std::ifstream in(folder_ / "report.md");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(text, testing::HasSubstr("| `gemm_kernel` | `layers.*.mlp` | 5 |"));
  EXPECT_THAT(text, testing::HasSubstr("no time here is the program's"));
  for (const char* name : {"report.json", "report.html"}) {  // json: checked against its schema
    const test::Run other = test::run_program(
        {PRESERVE_BIN_DIR "/preserve-report", recorded.trace, "-o", folder_ / name});
    EXPECT_EQ(other.exit_code, 0) << other.err;
  }
}

TEST_F(CudaCollector, CountersJoinARecordingOfTimes) {
  ASSERT_EQ(record({"graph", "5"}, {"--counters", "dram,l2"}).run.exit_code, 0);
  std::filesystem::rename(folder_ / "trace.db", folder_ / "counters.db");
  Recorded recorded = record({"graph", "7"});
  ASSERT_EQ(recorded.run.exit_code, 0);
  const auto join = [&](const char* trace, const char* counters) {
    return test::run_program({PRESERVE_BIN_DIR "/preserve-profile", "-f", "--add-counters",
                              folder_ / trace, folder_ / counters, "-o", folder_ / "both.db"});
  };
  const test::Run run = join("trace.db", "counters.db");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, testing::HasSubstr("14 of 14 GPU operators"));
  const std::vector<std::string> ops =
      recorded.rows("SELECT id || ' ' || start_ns || ' ' || end_ns FROM op ORDER BY id");
  recorded.trace = folder_ / "both.db";
  EXPECT_EQ(recorded.rows("SELECT id || ' ' || start_ns || ' ' || end_ns FROM op ORDER BY id"),
            ops);
  // Five replays of two kernels, the n-th of which moves n * 1000 bytes: on average 5000 and 6000.
  EXPECT_THAT(recorded.rows("SELECT DISTINCT string.value || ' ' || counter.value FROM counter "
                            "JOIN op ON op.id = op_id JOIN string ON string.id = name_id "
                            "WHERE metric = 'dram_read_bytes' ORDER BY 1"),
              testing::ElementsAre("gemm_kernel 5000.0",
                                   "ncclDevKernel_AllReduce_Sum_bf16_RING_LL 6000.0"));
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM meta WHERE key = 'counters'"), 0);
  EXPECT_EQ(recorded.number("SELECT COUNT(*) FROM step"), 7);
  // What does not fit is refused, and nothing is written.
  std::filesystem::remove(folder_ / "both.db");
  EXPECT_EQ(join("counters.db", "trace.db").exit_code, 2);
  EXPECT_EQ(join("counters.db", "counters.db").exit_code, 2);
  EXPECT_EQ(join("trace.db", "trace.db").exit_code, 2);
  std::filesystem::rename(folder_ / "counters.db", folder_ / "graph_counters.db");
  ASSERT_EQ(record({"steps", "3"}).run.exit_code, 0);  // other ranges
  const test::Run other = join("trace.db", "graph_counters.db");
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, testing::HasSubstr("none of the 6 GPU operators"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "both.db"));
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
    const Recorded recorded = record({"steps"}, options);
    EXPECT_EQ(recorded.run.exit_code, 2) << options[1] << recorded.run.err;
    EXPECT_THAT(recorded.run.err, testing::HasSubstr("--counters"));
  }
}

TEST_F(CudaCollector, WrongRangeIsAUsageError) {
  for (const char* range : {"sometimes", "steps:0", "time:", "nvtx:", "time:1s:0s"}) {
    const Recorded recorded = record({"steps"}, {"--capture-range", range});
    EXPECT_EQ(recorded.run.exit_code, 2) << range << recorded.run.err;
  }
}

TEST(CaptureRange, Texts) {
  cuda::CaptureRange range;
  EXPECT_TRUE(range.parse("time:100:50"));
  EXPECT_FALSE(range.recording_at_start());
  EXPECT_FALSE(range.records_after(99));
  EXPECT_TRUE(range.records_after(100));
  EXPECT_FALSE(range.records_after(150));
  EXPECT_EQ(range.next_change_ms(40), 60);
  EXPECT_EQ(range.next_change_ms(120), 30);
  EXPECT_EQ(range.next_change_ms(200), -1);
  EXPECT_TRUE(range.parse("steps:10"));
  EXPECT_TRUE(range.watches("decode_step"));
  EXPECT_TRUE(range.records(20));
  EXPECT_FALSE(range.records(21));
  EXPECT_TRUE(range.parse("nvtx:a?c*"));
  EXPECT_TRUE(range.watches("abcdef"));
  EXPECT_FALSE(range.watches("bc"));
  for (const char* wrong :
       {"steps:", "steps:-1", "steps:1x", "time:1:2:3", "time:99999999999999", "x"}) {
    EXPECT_FALSE(range.parse(wrong)) << wrong;
    EXPECT_EQ(range.kind(), cuda::CaptureRange::Kind::whole);
  }
}

}  // namespace
}  // namespace preserve
