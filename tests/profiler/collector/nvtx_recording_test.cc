// SPDX-License-Identifier: Apache-2.0
// Real processes that use NVTX, recorded by preserve-profile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/profiler/collector/recording.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

using ::testing::HasSubstr;

constexpr const char* kUnbalanced =
    "SELECT COUNT(*) FROM (SELECT process_id, source, SUM(CASE kind WHEN 'received' THEN count "
    "ELSE 0 END) - SUM(CASE kind WHEN 'received' THEN 0 ELSE count END) AS difference FROM loss "
    "GROUP BY process_id, source) WHERE difference <> 0";

TEST(NvtxRecording, ThreadsHaveTheirOwnStreamsAndNames) {
  const Recorded recording({kNvtxProgram, "threads"});
  EXPECT_EQ(recording.list("SELECT name FROM stream WHERE name IS NOT NULL ORDER BY name"),
            "worker 0,worker 1,worker 2,worker 3");
  EXPECT_EQ(recording.count("range_named WHERE name = 'thread work'"), 400);
  EXPECT_EQ(recording.count("op WHERE kind = 'compute'"), 400);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
  EXPECT_EQ(recording.number(kUnbalanced), 0);
}

TEST(NvtxRecording, RingsOfEndedThreadsServeTheNext) {
  // Room for two rings; eight threads, one after another.
  const Recorded recording({kNvtxProgram, "successive"}, {"--flush-period", "5ms"},
                           {"PRESERVE_RING_TOTAL=2097152"});
  EXPECT_EQ(recording.count("range_named WHERE name = 'successive'"), 8);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

TEST(NvtxRecording, MemoryOfRingsIsBoundedAndTheRestIsCounted) {
  // Room for one ring; four threads at once, of which three find none.
  const Recorded recording({kNvtxProgram, "threads"}, {"--ring-size", "64KiB"},
                           {"PRESERVE_RING_TOTAL=65536"});
  EXPECT_GE(recording.number("SELECT count FROM loss WHERE kind = 'dropped'"), 200);
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), 800);
  EXPECT_EQ(recording.number(kUnbalanced), 0);
  EXPECT_THAT(recording.run.err, HasSubstr("lost: "));
}

TEST(NvtxRecording, ForkedChildHasItsOwnProcess) {
  const Recorded recording({kNvtxProgram, "fork"});
  EXPECT_EQ(recording.count("process WHERE complete"), 2);
  const auto names = [&](const std::string& parent) {
    return recording.list(
        "SELECT range_named.name FROM range_named JOIN stream ON stream.id = "
        "stream_id JOIN process ON process.id = process_id WHERE ppid " +
        parent + " (SELECT pid FROM process) ORDER BY range_named.id");
  };
  EXPECT_EQ(names("IN"), "child,registered before fork");
  EXPECT_EQ(names("NOT IN"), "parent,parent after");
}

TEST(NvtxRecording, ExecutedChildHasItsOwnProcess) {
  const Recorded recording({kNvtxProgram, "exec"});
  EXPECT_EQ(recording.count("process"), 2);
  EXPECT_EQ(recording.list("SELECT name FROM range_named ORDER BY start_ns"),
            "before exec,after exec");
}

TEST(NvtxRecording, SeveralBinariesWithNvtxShareOneTimeline) {
  const Recorded recording({kNvtxProgram, "dlopen", PRESERVE_PROGRAM_DIR "/libnvtx_plugin.so"});
  EXPECT_EQ(recording.count("stream"), 1);
  EXPECT_EQ(recording.list("SELECT name FROM range_named ORDER BY start_ns"),
            "in program,in plugin");
}

TEST(NvtxRecording, CoreFunctions) {
  const Recorded recording({kNvtxProgram, "core"});
  EXPECT_EQ(recording.list("SELECT kind || ':' || COALESCE(domain, '') || ':' || name || ':' || "
                           "depth FROM range_named ORDER BY kind, start_ns"),
            "mark::a mark:2,mark:my domain:wide mark:0,push_pop:my domain:with payload:0,"
            "push_pop::wide \xc3\xa9\xe2\x82\xac:1,start_end::across threads:0,"
            "start_end::never ended:0");
  EXPECT_EQ(recording.list("SELECT payload FROM range WHERE payload IS NOT NULL"), "-42");
  EXPECT_EQ(recording.list("SELECT name FROM range_named WHERE end_ns IS NULL"), "never ended");
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'unmatched'"),
            1);  // the last pop
  EXPECT_EQ(recording.number(kUnbalanced), 0);
}

TEST(NvtxRecording, MemoryRegionsBecomeTensorsAndAccesses) {
  const Recorded recording({kNvtxProgram, "memory"});
  EXPECT_EQ(recording.list("SELECT value || ':' || role || ':' || bytes FROM tensor JOIN string ON "
                           "string.id = name_id ORDER BY tensor.id"),
            "layers.0.mlp.up.weight:weight:4096,layers.0.attn.k_cache:kv:1024,"
            "layers.0.attn.k_cache:kv:1280,layers.0.attn.k_cache:kv:1536");
  EXPECT_EQ(recording.list("SELECT op, tensor, mode, offset_bytes || '+' || bytes, confidence FROM "
                           "access_named ORDER BY op_id, operand"),
            "layers.0.mlp.up layers.0.mlp.up.weight read 0+4096 1.0,"
            "scores layers.0.attn.k_cache read 0+1024 0.5,"
            "scores layers.0.attn.k_cache write 1024+0 0.5,"
            "layers.0.mlp.up layers.0.mlp.up.weight read 0+4096 1.0,"
            "scores layers.0.attn.k_cache read 0+1280 0.5,"
            "scores layers.0.attn.k_cache write 1024+256 0.5,"
            "layers.0.mlp.up layers.0.mlp.up.weight read 0+4096 1.0,"
            "scores layers.0.attn.k_cache read 0+1536 0.5,"
            "scores layers.0.attn.k_cache write 1280+256 0.5");
  EXPECT_EQ(recording.count("step WHERE source = 'nvtx'"), 3);
}

TEST(NvtxRecording, PayloadsAreDecodedByTheirSchema) {
  const Recorded recording({kNvtxProgram, "payload"});
  const std::string decoded =
      R"([{"schema":"AllReduce","NCCL communicator ID":4660,"Message size [bytes]":2048,)"
      R"("Reduction operation":"Max"}])";
  EXPECT_EQ(recording.list("SELECT domain, name FROM range_named"), "NCCL ncclAllReduce");
  EXPECT_EQ(recording.list("SELECT payload FROM range"),
            R"({"push":)" + decoded + R"(,"pop":)" + decoded + "}");
}

TEST(NvtxRecording, FullRingDropsWholeRangesAndCountsThem) {
  const Recorded recording({kNvtxProgram, "flood", "200000"},
                           {"--ring-size", "4KiB", "--flush-period", "1s"});
  // 200000 times two pushes and two pops, one range around, one after.
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), 800'004);
  EXPECT_GT(recording.number("SELECT count FROM loss WHERE kind = 'dropped'"), 0);
  EXPECT_EQ(recording.number(kUnbalanced), 0);
  // Every range that is there has its end, and the tree is the program's.
  EXPECT_EQ(recording.count("range WHERE end_ns IS NULL"), 0);
  EXPECT_EQ(recording.count("loss WHERE kind = 'unmatched'"), 0);
  EXPECT_EQ(recording.count("range_named WHERE depth <> CASE name WHEN 'inner' THEN 2 WHEN 'outer "
                            "range of the flood' THEN 1 ELSE 0 END"),
            0);
}

TEST(NvtxRecording, AFileThatTakesNoMoreIsToldAndCounted) {
  // A limit below one full ring stands for a full disk, however often the writer got to run.
  const Recording recording(
      {"/bin/sh", "-c", "ulimit -f 48; exec " + kNvtxProgram + " flood 20000"},
      {"--ring-size", "64KiB", "--flush-period", "1ms"});
  ASSERT_EQ(recording.run.exit_code, 0) << recording.run.err;
  EXPECT_EQ(recording.number(kUnbalanced), 0);
  if (recording.number("SELECT complete FROM process") == 1) {
    EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), 80'004);
    EXPECT_GT(recording.number("SELECT SUM(count) FROM loss_nonzero"), 0);
    EXPECT_THAT(recording.run.err, HasSubstr("took no more for a while (disk full"));
  } else {  // not even the statistics found room
    EXPECT_THAT(recording.run.err, HasSubstr("or the disk under"));
  }
}

struct Ending {
  const char* how;
  int exit_code;
};
class UnorderlyEnd : public ::testing::TestWithParam<Ending> {};

TEST_P(UnorderlyEnd, LeavesAReadableTraceOfEverythingFlushed) {
  const Recording recording({kNvtxProgram, "ends", GetParam().how}, {"--flush-period", "20ms"});
  EXPECT_EQ(recording.run.exit_code, GetParam().exit_code) << recording.run.err;
  EXPECT_EQ(recording.count("range_named WHERE name = 'flushed'"), 50);
  EXPECT_EQ(recording.count("range WHERE end_ns IS NULL"), 1);
  EXPECT_EQ(recording.number("SELECT complete FROM process"), 0);
  EXPECT_EQ(recording.db().meta("incomplete"), "1");
  EXPECT_THAT(recording.run.err, HasSubstr("incomplete"));
}

INSTANTIATE_TEST_SUITE_P(Ways, UnorderlyEnd,
                         ::testing::Values(Ending{"segv", 128 + SIGSEGV},
                                           Ending{"kill", 128 + SIGKILL}, Ending{"_exit", 7}),
                         [](const auto& ending) {
                           const std::string how = ending.param.how;
                           return how == "_exit" ? "underscore_exit" : how;
                         });

}  // namespace
}  // namespace preserve::test
