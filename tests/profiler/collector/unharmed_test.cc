// SPDX-License-Identifier: Apache-2.0
// Correct programs of unusual kinds: they do the same with and without the collector, and what can
// be recorded of them is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <sstream>

#include "tests/profiler/collector/recording.h"
#include "tests/support/exits.h"

namespace preserve::test {
namespace {

using ::testing::HasSubstr;

const std::string kScripted = PRESERVE_PROGRAM_DIR "/scripted_program";
const std::string kNames = "SELECT name FROM range_named ORDER BY start_ns";

TEST(Unharmed, AProgramWhoseFirstThreadEndsEndsWithItsLast) {
  const Recorded recording({kScripted, "nvtx:first thread", "buffered:until exit", "detached", "[",
                            "nvtx:after the first thread", "]", "pthread_exit"});
  EXPECT_EQ(recording.run.out, "buffered until exit\n");
  EXPECT_EQ(recording.list(kNames), "first thread,after the first thread");
  EXPECT_EQ(recording.number("SELECT complete FROM process"), 1);
}

TEST(Unharmed, AFirstThreadThatTheCLibraryDoesNotSeeEndLosesNothing) {
  const Recorded recording({kScripted, "nvtx", "system_exit:0"});
  EXPECT_EQ(recording.list(kNames), "range");
}

TEST(Unharmed, WhatAThreadWithoutSystemCallsLosesIsCounted) {
  const Recorded recording({kScripted, "nvtx", "strict", "nvtx:hot", "system_exit:0"});
  EXPECT_EQ(recording.list(kNames), "range");
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'dropped'"), 40'000);
}

TEST(Unharmed, TimesGoOnWithoutTheTimeStampCounter) {
  const Recorded recording({kScripted, "nvtx:mark", "sleep:20", "no_clock_counter", "nvtx:mark",
                            "sleep:20", "nvtx:mark"});
  EXPECT_EQ(recording.count("range AS a JOIN range AS b ON b.id = a.id + 1 WHERE b.start_ns - "
                            "a.start_ns >= 20000000"),
            2);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

TEST(Unharmed, AProgramThatMayWriteNoFileIsNotEndedByOurs) {
  const Recorded recording({kScripted, "limit_file:0", "nvtx:limited", "say:alive"});
  EXPECT_EQ(recording.run.out, "says alive\n");
}

TEST(Unharmed, AChildThatTheCLibraryDoesNotKnowRecordsAndEnds) {
  const Recorded recording({kScripted, "nvtx:parent", "clone", "[", "nvtx:first of the child",
                            "nvtx:child", "]", "nvtx:parent after"});
  EXPECT_EQ(recording.run.out, "clone: code 0\n");
  EXPECT_EQ(recording.count("process WHERE complete"), 2);
  EXPECT_EQ(
      recording.list("SELECT name FROM range_named WHERE name NOT LIKE 'first%' ORDER BY start_ns"),
      "parent,child,parent after");
  EXPECT_EQ(recording.number("SELECT SUM(count) FROM loss WHERE kind = 'dropped'"), 1);
}

TEST(Unharmed, AProgramWithoutTheTimeStampCounter) {
  const Recorded recording({kScripted, "no_clock_counter", "nvtx:without time-stamp counter"});
  EXPECT_EQ(recording.list(kNames), "without time-stamp counter");
}

TEST(Unharmed, ThousandsOfShortThreadsLoseNothing) {
  // The writer gives no ring on meanwhile.
  const Recorded recording({kScripted, "threads:2000", "[", "nvtx:short", "]"},
                           {"--flush-period", "3600s"});
  EXPECT_EQ(recording.count("range"), 2000);
  EXPECT_EQ(recording.count("loss_nonzero"), 0);
}

TEST(Unharmed, AServerThatDropsRootIsRecorded) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const Recorded recording({kScripted, "drop_root", "nvtx:as nobody"});
  EXPECT_EQ(recording.run.out, "drop root: done, now 65534\n");
  EXPECT_EQ(recording.list(kNames), "as nobody");
}

TEST(Unharmed, AStaticProgramIsNotRecorded) {
  const std::string program = PRESERVE_PROGRAM_DIR "/scripted_program_static";
  if (!std::filesystem::exists(program)) GTEST_SKIP() << "no static C library";
  const Recorded recording({program, "nvtx:plain", "say:alive"});
  EXPECT_EQ(recording.run.out, "says alive\n");
  EXPECT_THAT(recording.run.err, HasSubstr("nothing was recorded"));
}

// Programs of musl, which the environment of a shell or mpirun makes load the module, are ended by
// their loader over one function that musl lacks, or a library that is not its own.
class NeedsNoGlibc : public ::testing::TestWithParam<const char*> {};
TEST_P(NeedsNoGlibc, AModuleThatTheEnvironmentLoads) {
  const std::string library = PRESERVE_BIN_DIR "/../lib/preserve/" + std::string(GetParam());
  const auto fields = [](const std::string& text) {
    std::istringstream stream(text);
    return std::vector<std::string>(std::istream_iterator<std::string>(stream), {});
  };
  const test::Run symbols = succeeded(
      run_program({"nm", "-D", "--undefined-only", "--without-symbol-versions", library}));
  const std::vector<std::string> words = fields(symbols.out);
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    const std::string& name = words[i + 1];
    if (words[i] != "U") continue;  // w: may be missing
    EXPECT_NE(name, "sem_clockwait");
    const bool own = name.starts_with("_") && name != "__errno_location" && name != "__environ" &&
                     name != "__cxa_atexit" && name != "__cxa_finalize" &&
                     name != "__sched_cpucount";
    EXPECT_FALSE(own) << name;
  }
  const test::Run needs = succeeded(run_program({"readelf", "-dW", library}));
  EXPECT_THAT(needs.out, HasSubstr("[libc.so.6]"));
  EXPECT_THAT(needs.out, testing::Not(HasSubstr("[ld-linux")));
}
INSTANTIATE_TEST_SUITE_P(Modules, NeedsNoGlibc,
                         ::testing::Values("libpreserve_collect.so", "libpreserve_apply.so"),
                         [](const auto& module) {
                           return std::string(module.param).substr(sizeof("libpreserve_") - 1, 5);
                         });

TEST(Unharmed, AStandInForMpiWithoutPmpiNames) {
  for (const std::vector<std::string>& options : {std::vector<std::string>{}, {"--no-mpi"}}) {
    const Recorded recording({PRESERVE_PROGRAM_DIR "/mpi_stub_program"}, options);
    EXPECT_EQ(recording.run.out, "ok\n");
  }
}

TEST(Unharmed, AnotherToolOfMpisProfilingInterface) {
  const std::string tool = PRESERVE_PROGRAM_DIR "/libmpi_tool.so";
  const Recording preloaded(mpirun(1, {"-x", "LD_PRELOAD", kMpiProgram, "five"}), {},
                            // preserve-profile itself may be built with AddressSanitizer.
                            {"LD_PRELOAD=" + tool, "ASAN_OPTIONS=verify_asan_link_order=0"});
  const Recording linked(mpirun(1, {PRESERVE_PROGRAM_DIR "/mpi_tool_program", "five"}));
  for (const Recording* recording : {&preloaded, &linked}) {
    EXPECT_EQ(recording->run.exit_code, 0) << recording->run.err;
    EXPECT_THAT(recording->run.out, HasSubstr("tool saw 5 MPI_Allreduce\n"));
    EXPECT_EQ(recording->count("collective_named"), 5);
  }
}

TEST(Unharmed, ASpoolHasALimit) {
  const TemporaryDirectory folder;
  constexpr int64_t kLimit = 16 << 10, kControl = 64 << 10;  // one ring does not fit
  const std::string spools = (folder / "spools").string();
  const Recorded recording({kNvtxProgram, "flood", "100000"},
                           {"--ring-size", "16KiB", "--flush-period", "5ms", "--keep-spool", spools,
                            "--max-spool", "16KiB"});
  EXPECT_THAT(recording.run.err, HasSubstr("--max-spool"));
  for (const auto& file : std::filesystem::directory_iterator(spools)) {
    EXPECT_LE(static_cast<int64_t>(file.file_size()), kLimit + kControl);
  }
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), 400'004);
  EXPECT_GT(recording.number("SELECT SUM(count) FROM loss_nonzero"), 300'000);
}

constexpr int64_t kHotRecords = 1 + 5 * 40'000 + 2;  // of nvtx_program hot 40000

TEST(Unharmed, OfALongRecordingTheNewestRecordsCanBeKept) {
  const TemporaryDirectory folder;
  const std::string spools = (folder / "spools").string();
  const Recorded recording(
      {kNvtxProgram, "hot", "40000"},
      {"--keep", "last", "--max-spool", "2MiB", "--flush-period", "5ms", "--keep-spool", spools});
  for (const auto& file : std::filesystem::directory_iterator(spools)) {
    struct stat status {};
    ASSERT_EQ(::stat(file.path().c_str(), &status), 0);
    EXPECT_LE(status.st_blocks * 512, 3 << 20);
    EXPECT_GT(status.st_size, 3 << 20);
  }
  EXPECT_EQ(recording.list("SELECT name FROM range_named ORDER BY start_ns DESC LIMIT 1"), "after");
  EXPECT_EQ(recording.count("range_named WHERE name = 'early'"), 0);
  EXPECT_GT(recording.count("range_named WHERE name = 'registered' AND domain = 'hot'"), 1000);
  EXPECT_EQ(recording.count("range_named WHERE name LIKE 'unregistered%'"), 0);
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), kHotRecords);
  EXPECT_GT(recording.number("SELECT count FROM loss WHERE kind = 'overwritten'"), 1000);
  EXPECT_EQ(recording.number("SELECT complete FROM process"), 1);
}

TEST(Unharmed, AHotLoopCanBeSampled) {
  const Recorded recording({kNvtxProgram, "hot", "40000"},
                           {"--sample=10", "--flush-period", "10ms"});
  EXPECT_EQ(recording.number("SELECT count FROM loss WHERE kind = 'received'"), kHotRecords);
  EXPECT_GT(recording.number("SELECT count FROM loss WHERE kind = 'sampled'"), kHotRecords / 2);
  EXPECT_EQ(recording.number(
                "SELECT SUM(count) FROM loss WHERE kind NOT IN ('received', 'written', 'sampled')"),
            -1);
  EXPECT_EQ(recording.count("range WHERE end_ns IS NULL"), 0);
  EXPECT_EQ(recording.list("SELECT COUNT(*) > 10 FROM range_named GROUP BY name ORDER BY name"),
            "0,0,1,1,1");  // after, early; mark, registered, started
}

}  // namespace
}  // namespace preserve::test
