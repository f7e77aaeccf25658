// SPDX-License-Identifier: Apache-2.0
// The real collector in real processes, with a fake CUPTI (fake_cupti.h): capture ranges, graphs,
// ways to end, ways to fail. Where the real libcupti is there but no driver, its refusal is a test
// too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/output_file.h"
#include "profiler/capture_range.h"
#include "profiler/convert/convert.h"
#include "profiler/convert/spool_reader.h"
#include "tests/profiler/collector/cuda/cuda_recording.h"
#include "tests/profiler/collector/cuda/kill_log.h"
#include "tests/support/exits.h"

namespace preserve {
namespace {

TEST_F(CudaCollector, EveryKernelWithItsRangeAndCall) {
  const RecordedWell recorded({"steps", "3"});
  EXPECT_EQ(recorded.kernels(), 6);
  EXPECT_THAT(
      recorded.rows(
          "SELECT op.kind, range_name.value FROM op JOIN range ON range.id = op.range_id JOIN "
          "string AS range_name ON range_name.id = range.name_id ORDER BY op.id LIMIT 2"),
      testing::ElementsAre("compute decode_step", "collective decode_step"));
  EXPECT_EQ(recorded.count("step"), 3);
  EXPECT_EQ(
      recorded.number("SELECT SUM(count) FROM loss WHERE kind NOT IN ('received', 'written')"), -1);
  EXPECT_EQ(recorded.count("op WHERE step_id IS NOT NULL"), 6);
  // A host range is a place in the program, not an operator next to the kernels.
  EXPECT_EQ(recorded.count("op"), 6);
}

TEST_F(CudaCollector, GraphReplaysKnowWhatWasCaptured) {
  const RecordedWell recorded({"graph", "4"});
  EXPECT_EQ(recorded.kernels(), 8);
  EXPECT_EQ(recorded.operators_in("layers.0.mlp"), 4);
  EXPECT_EQ(recorded.count("step"), 4);
}

// Each communicates while the other computes: taken for one device nothing would be exposed.
TEST_F(CudaCollector, SeveralGpusOfAProcessAreSeveralDevices) {
  const RecordedWell recorded({"two_gpus", "6"});
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("2 GPUs: they are ranks 0 to 1"));
  EXPECT_THAT(
      recorded.rows(
          "SELECT rank || ' of ' || world_size, (SELECT COUNT(*) FROM step WHERE process_id = "
          "process.id), COUNT(DISTINCT pid) FROM process GROUP BY id ORDER BY rank"),
      testing::ElementsAre("0 of 2 6 1", "1 of 2 6 1"));
  EXPECT_THAT(
      recorded.rows(
          "SELECT process.rank, stream.name, COUNT(*) FROM op JOIN stream ON stream.id = "
          "op.stream_id JOIN process ON process.id = stream.process_id JOIN range ON range.id = "
          "op.range_id JOIN stream AS thread ON thread.id = range.stream_id AND thread.process_id "
          "= process.id WHERE op.step_id IS NOT NULL GROUP BY op.stream_id ORDER BY 1, 2"),
      testing::ElementsAre("0 GPU 0 stream 7 12", "1 GPU 1 stream 7 12"));
  const test::Run summary = test::run_program({test::kProfile, "--summary", recorded.trace});
  succeeded(test::run_program(
      {test::kProfile, "--export", "chrome", recorded.trace, "-o", folder_ / "trace.json"}));
  const std::string chrome = read_text_file(folder_ / "trace.json");
  for (const char* rank : {"0", "1"}) {
    EXPECT_THAT(chrome, testing::HasSubstr(std::string("\"rank ") + rank + " "));
    EXPECT_THAT(summary.out, testing::ContainsRegex(std::string("RANK ") + rank +
                                                    " of 2[^R]*600.00 us exposed"));
    // The windows are its own communication, and hold none of the other's.
    succeeded(test::run_program(
        {PRESERVE_BIN_DIR "/preserve-tune", "-f", recorded.trace, "--rank", rank, "--device",
         PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json", "-o", folder_ / "schedule.json"}));
    const std::string schedule = read_text_file(folder_ / "schedule.json");
    EXPECT_THAT(schedule, testing::HasSubstr(std::string("\"rank\": ") + rank));
    EXPECT_THAT(schedule, testing::ContainsRegex("\"usable_ns\": 9[0-9]{4},"));
  }
}

TEST_F(CudaCollector, GraphCapturedBeforeTheRangeIsKnownInside) {
  const RecordedWell recorded({"profiler", "3"}, {"--capture-range", "profiler"});
  EXPECT_EQ(recorded.kernels(), 6);
  EXPECT_EQ(recorded.operators_in("layers.0.allreduce"), 3);
}

TEST_F(CudaCollector, EveryNthStep) {
  EXPECT_EQ(Recorded({"steps", "10"}, {"--capture-range", "steps:4"}).kernels(), 6);
  EXPECT_EQ(Recorded({"steps", "5"}, {"--capture-range", "steps:2:decode*"}).kernels(), 6);
}

TEST_F(CudaCollector, RangeByName) {
  EXPECT_EQ(Recorded({"steps", "2"}, {"--capture-range", "nvtx:decode_step"}).kernels(), 4);
  EXPECT_EQ(Recorded({"steps", "2"}, {"--capture-range", "nvtx:other"}).kernels(), 0);
  EXPECT_EQ(Recorded({"started", "3"}, {"--capture-range", "nvtx:request"}).kernels(), 6);
  EXPECT_EQ(Recorded({"steps", "2"}, {"--capture-range", "time:3600s"}).kernels(), 0);
}

TEST_F(CudaCollector, OffMeansOff) {
  const Recorded recorded({"steps", "2"}, {"--cuda", "off"});
  EXPECT_EQ(recorded.kernels(), 0);
  EXPECT_EQ(recorded.run.err.find("GPU activity"), std::string::npos);
}

TEST_F(CudaCollector, WithoutParametersNothingElseIsLost) {
  EXPECT_EQ(Recorded({"graph", "2"}, {"--params", "off"}).kernels(), 4);
}

TEST_F(CudaCollector, ThreadsAtOnce) {
  const RecordedWell recorded({"threads"}, {}, {"PRESERVE_CUDA_BUFFER_BYTES=65536"});
  EXPECT_EQ(recorded.kernels(), 4000);
}

TEST_F(CudaCollector, BuffersHaveAFixedBudget) {
  // One buffer of 64 KiB holds 303 kernels; the writer may or may not be in time for the rest, but
  // what found no room is counted and the program goes on. Before 12.9 CUPTI has to be given one.
  for (const char* version : {"FAKE_CUPTI=version=26", "FAKE_CUPTI=version=27"}) {
    SCOPED_TRACE(version);
    const RecordedWell recorded(
        {"threads"}, {"--flush-period", "10s"},
        {"PRESERVE_CUDA_BUFFER_BYTES=65536", "PRESERVE_CUDA_BUFFERS=1", version});
    const int64_t kernels = recorded.kernels();
    const int64_t lost = recorded.loss("cupti_buffers", "dropped");
    EXPECT_GE(kernels, 1);
    EXPECT_TRUE(kernels == 4000 || lost > 0) << kernels << " kernels, " << lost << " buffers lost";
  }
}

// What a full file does not take is counted; of the newest records none has lost its name.
// Kernels alone take more than 2 MiB, since how much the threads' rings took depends on the load.
TEST_F(CudaCollector, ASpoolHasALimit) {
  for (const auto& [keep, bytes] :
       {std::pair{"first", "2MiB"}, {"last", "2MiB"}, {"last", "256KiB"}}) {
    SCOPED_TRACE(std::string(keep) + " " + bytes);
    const RecordedWell recorded({"steps", "13000"},
                                {"--max-spool", bytes, "--keep", keep, "--params", "off"});
    const std::string lost = std::strcmp(keep, "first") == 0 ? "'missing'" : "'overwritten'";
    const auto sum = [&](const std::string& kinds) {
      return recorded.number(
          "SELECT IFNULL(SUM(count), 0) FROM loss WHERE source = 'cupti' AND kind IN (" + kinds +
          ")");
    };
    EXPECT_GT(sum(lost), 0);
    EXPECT_EQ(sum("'received'"), 26'000);
    EXPECT_EQ(sum("'received'"), sum("'written', " + lost));
    EXPECT_GT(recorded.kernels(), 0);
    EXPECT_EQ(recorded.count(
                  "op_named JOIN stream ON stream.id = stream_id WHERE stream.kind = 'gpu' AND "
                  "op_named.name IN ('gemm_kernel', 'ncclDevKernel_AllReduce_Sum_bf16_RING_LL')"),
              recorded.kernels());
    EXPECT_EQ(recorded.count("device WHERE kind = 'gpu'"), 1);
  }
}

TEST_F(CudaCollector, ExitCodeIsTheProgramsOwn) {
  const Recorded recorded({"exit", "2"});
  EXPECT_EQ(recorded.run.exit_code, 7);
  EXPECT_EQ(recorded.kernels(), 4);
}

TEST_F(CudaCollector, SignalWithoutHandlerIsFlushedFirst) {
  const Recorded recorded({"terminate", "5"}, {"--flush-period", "60s"});
  EXPECT_EQ(recorded.run.exit_code, 128 + SIGTERM) << recorded.run.err;
  EXPECT_EQ(recorded.kernels(), 10);
}

TEST_F(CudaCollector, KilledProcessLosesAtMostAFlushPeriod) {
  const Recorded recorded({"kill", "5"}, {"--flush-period", "50ms"});
  EXPECT_EQ(recorded.run.exit_code, 128 + SIGKILL);
  EXPECT_EQ(recorded.kernels(), 10);
  EXPECT_EQ(recorded.number("SELECT SUM(complete = 0) FROM process"), 1);
}

// When the writer began his last round but one, whose end is in the spool: the last one may have
// been cut off. 0 when there were not two.
int64_t last_whole_round_ns(const std::filesystem::path& spools) {
  const SpoolFileReader file(spool_files(spools).front());
  std::vector<int64_t> rounds{0, 0};
  for (const SpoolFileReader::Chunk& chunk : file.chunks()) {
    SpoolCursor cursor(chunk.tid == 0 ? chunk.records : std::string_view());
    SpoolRecord record;
    while (cursor.next(&record)) {
      spool::DefinitionBody body;
      std::string_view text, blob;
      if (record.head.type == spool::RecordType::anchor && record.split(&body, &text, &blob)) {
        rounds.push_back(static_cast<int64_t>(body.id));
      }
    }
  }
  return rounds[rounds.size() - 2];
}

// Killed at random moments: the trace is always readable, holds no kernel that was not launched and
// none twice, and everything that CUPTI had handed out before the writer's last whole round.
TEST_F(CudaCollector, KilledAtAnyMoment) {
  constexpr unsigned kRuns = 24;
  int64_t recorded_in_all = 0;
  uint64_t promised_in_all = 0;
  for (unsigned seed = 1; seed <= kRuns; ++seed) {
    SCOPED_TRACE(seed);
    const std::string file = folder_ / ("log" + std::to_string(seed)).c_str();
    const std::string spools = folder_ / ("spools" + std::to_string(seed)).c_str();
    const Recorded recorded(
        {"randomly_killed", std::to_string(seed), file},
        {"--flush-period", "20ms", "--keep-spool", spools},
        {seed % 3 == 0 ? "PRESERVE_CUDA_BUFFER_BYTES=65536" : "PRESERVE_NOTHING=1"});
    ASSERT_EQ(recorded.run.exit_code, 128 + SIGKILL) << recorded.run.err;
    KillLog log{};
    std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(&log), sizeof(log));
    const int64_t kernels = recorded.kernels();
    recorded_in_all += kernels;
    // A replay runs two kernels under one number.
    EXPECT_EQ(recorded.count("(SELECT DISTINCT correlation_id, graph_node_id FROM op JOIN stream "
                             "ON stream.id = stream_id WHERE stream.kind = 'gpu')"),
              kernels);
    EXPECT_LE(kernels, static_cast<int64_t>(log.launched));
    const int64_t whole_ns = last_whole_round_ns(spools);
    uint64_t promised = 0;
    for (uint64_t look = 1; look < log.looks && log.seen[look].ns < whole_ns; ++look) {
      promised = log.seen[look - 1].launched;
    }
    EXPECT_GE(kernels + recorded.number("SELECT IFNULL(SUM(count), 0) FROM loss WHERE source IN "
                                        "('cupti', 'cupti_buffers') AND kind = 'dropped'"),
              static_cast<int64_t>(promised));
    promised_in_all += promised;
    EXPECT_EQ(recorded.number("SELECT SUM(complete = 0) FROM process"), 1);
    EXPECT_EQ(recorded.unexplained("cupti"), 0);
  }
  EXPECT_GT(recorded_in_all, 1000);
  EXPECT_GT(promised_in_all, 0U);
}

// As in a program that does not bring libcupti itself: the collector loads it, so libcupti's exit
// handlers come after those of the program, and the last flush has to come before them.
TEST_F(CudaCollector, LastFlushComesBeforeTheEndOfLibcupti) {
  EXPECT_THAT(run_injected({"PRESERVE_CUPTI=" PRESERVE_FAKE_CUPTI}),
              test::exits(5, testing::Not(testing::HasSubstr("flushed after the end"))));
}

// Graphs are instantiated at start-up, where CUPTI has to know already that they will be traced.
TEST_F(CudaCollector, WholeGraphsInARangeThatOpensBehindTheirInstantiation) {
  const RecordedWell recorded({"profiler", "3"},
                              {"--capture-range", "profiler", "--cuda-graphs", "graph"});
  EXPECT_EQ(recorded.kernels(), 3);
  EXPECT_EQ(recorded.loss("cupti", "received"), 3);
  EXPECT_EQ(Recorded({"graph", "4"}, {"--cuda-graphs", "graph"}).kernels(), 4);
  EXPECT_EQ(
      Recorded({"graph", "4"}, {"--cuda-graphs", "graph", "--capture-range", "nvtx:no"}).kernels(),
      0);
}

TEST_F(CudaCollector, WhatCuptiDoesNotRecordIsSaid) {
  const Recorded recorded({"steps", "2"}, {}, {"FAKE_CUPTI=copies=14"});
  EXPECT_EQ(recorded.kernels(), 4);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("CUPTI does not record copies"));
  EXPECT_THAT(recorded.facts(),
              testing::ElementsAre(testing::HasSubstr("CUPTI does not record copies")));
}

TEST_F(CudaCollector, WarningsOfCuptiAreSaidOnce) {
  const Recorded recorded({"warning"});
  EXPECT_EQ(recorded.kernels(), 2);
  const std::string& err = recorded.run.err;
  const size_t first = err.find("no room for device buffers");
  ASSERT_NE(first, std::string::npos) << err;
  EXPECT_EQ(err.find("no room for device buffers", first + 1), std::string::npos) << err;
}

TEST_F(CudaCollector, BufferThatCannotBeReadOnIsCounted) {
  const Recorded recorded({"incomplete"});
  EXPECT_EQ(recorded.kernels(), 2);
  EXPECT_THAT(recorded.run.err, testing::HasSubstr("1 of 3 GPU records unreadable"));
}

// On either clock of CUPTI a kernel lies where it was launched.
TEST_F(CudaCollector, EveryVersionOfCuptiTellsTheSameTimes) {
  for (const char* version : {"version=17", "version=22", "version=28", "version=130200"}) {
    SCOPED_TRACE(version);
    const Recorded recorded({"steps", "3"}, {}, {std::string("FAKE_CUPTI=") + version});
    EXPECT_EQ(recorded.kernels(), 6);
    EXPECT_EQ(recorded.count("op JOIN range ON range.id = op.range_id WHERE op.start_ns BETWEEN "
                             "range.start_ns AND range.end_ns"),
              6);
  }
}

TEST_F(CudaCollector, HardwareTraceIsAskedForWhenTheDriverIsReady) {
  const Recorded recorded({"steps", "2"}, {"--cuda-hw-trace"});
  EXPECT_EQ(recorded.kernels(), 4);
  EXPECT_THAT(recorded.run.err, testing::Not(testing::HasSubstr("hardware trace")));
  EXPECT_THAT(Recorded({"unready", "2"}, {"--cuda-hw-trace"}).run.err,
              testing::HasSubstr("no hardware trace: the driver never reported that it is ready"));
}

TEST_F(CudaCollector, ForkedChildIsNotRecordedAndLives) {
  const RecordedWell recorded({"fork"});
  EXPECT_EQ(recorded.kernels(), 6);
}

TEST_F(CudaCollector, AnotherSubscriberIsNamed) {
  const Recorded recorded({"steps", "2"}, {}, {"FAKE_CUPTI=subscribe=39"});
  EXPECT_THAT(recorded.run,
              test::exits(0, testing::HasSubstr("another profiler holds CUPTI (nsys)")));
  EXPECT_EQ(recorded.kernels(), 0);
  EXPECT_EQ(recorded.count("step"), 2);  // NVTX is still recorded
  EXPECT_THAT(recorded.facts(), testing::ElementsAre(testing::HasSubstr("nsys")));
}

TEST_F(CudaCollector, ErrorsOfCuptiLeaveTheProgramAlone) {
  for (const char* failure : {"subscribe=999", "enable=8"}) {
    SCOPED_TRACE(failure);
    const Recorded recorded({"exit", "2"}, {}, {std::string("FAKE_CUPTI=") + failure});
    EXPECT_THAT(recorded.run, test::exits(7, testing::HasSubstr("GPU activity is not recorded")));
    EXPECT_EQ(recorded.kernels(), 0);
  }
}

TEST_F(CudaCollector, FatalStateEndsTheRecordingOnly) {
  const RecordedWell recorded({"fatal"});
  EXPECT_THAT(recorded.facts(), testing::ElementsAre(testing::HasSubstr("the device fell off")));
}

TEST_F(CudaCollector, NoLibcuptiIsOneLine) {
  const test::Recording recording({PRESERVE_CUDA_PLAYER, "exit", "1"}, {},
                                  {"PRESERVE_CUPTI=/nowhere/libcupti.so.13"});
  EXPECT_EQ(recording.run.exit_code, 7);
  EXPECT_TRUE(std::filesystem::exists(recording.trace));
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
  EXPECT_THAT(run_injected({"CUDA_HOME=" + home.string(), "PRESERVE_CUPTI="}),
              test::exits(5, testing::Not(testing::HasSubstr("GPU activity is not recorded"))));
}

TEST_F(CudaCollector, RealLibcuptiWithoutADriver) {
  if (!std::filesystem::exists(PRESERVE_REAL_CUPTI)) GTEST_SKIP() << "no libcupti on this machine";
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "this machine has a driver";
  EXPECT_THAT(
      run_injected({"PRESERVE_CUPTI=" PRESERVE_REAL_CUPTI}),
      test::exits(5, testing::AllOf(
                         testing::HasSubstr("GPU activity is not recorded: CUPTI refuses to start"),
                         testing::HasSubstr("999"))));
}

TEST_F(CudaCollector, WrongRangeIsAUsageError) {
  for (const char* range : {"sometimes", "steps:0", "time:", "nvtx:", "time:1s:0s"}) {
    const Recorded recorded({"steps"}, {"--capture-range", range});
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
