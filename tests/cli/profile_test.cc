// SPDX-License-Identifier: Apache-2.0
// preserve-profile from outside: what passes through, what is refused, what it leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "common/foreground_child.h"
#include "common/output_file.h"
#include "tests/profiler/collector/recording.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

size_t files_in(const fs::path& folder) {
  return names_in(folder).size();
}

// A recording of one rank of several, changed further by `more`.
void write_rank(const fs::path& path, int64_t rank, int64_t world_size,
                const std::function<void(TraceDb&)>& more = {}) {
  write_synthetic_trace(path, {.ranks = 1}, [&](TraceDb& db) {
    db.execute("UPDATE process SET rank = ?1, world_size = ?2, pid = ?1 + 1", {rank, world_size});
    if (more) more(db);
  });
}

class ProfileCli : public testing::Test {
 protected:
  test::Run profile(const Words& arguments, const Words& environment = {}) const {
    return run_program(words(kProfile, arguments), environment, folder_.path());
  }
  // Of a.db and b.db.
  test::Run merge() const { return profile({"--merge", "a.db", "b.db", "-o", "c.db"}); }
  const TemporaryDirectory folder_;
};

TEST_F(ProfileCli, OutputAndExitCodePassThrough) {
  const Recording recording({kNvtxProgram, "exit", "37"});
  EXPECT_EQ(recording.run.exit_code, 37);
  EXPECT_EQ(recording.run.out, "to stdout\n");
  EXPECT_THAT(recording.run.err, HasSubstr("to stderr\n"));
  EXPECT_THAT(recording.run.err, HasSubstr("no decode step was found"));
  EXPECT_THAT(recording.run.err,
              EndsWith("next: preserve-report " + recording.trace + " -o report.html\n"));
  EXPECT_EQ(recording.number("SELECT complete FROM process"), 1);
}

TEST_F(ProfileCli, CountersThatNothingCountedAreSaid) {
  EXPECT_THAT(Recording({kNvtxProgram, "range", "a"}, {"--counters", "dram"}).run,
              exits(0, HasSubstr("warning: --counters: no kernel was counted")));
}

TEST_F(ProfileCli, StandardInputReachesTheCommand) {
  const Recording recording({"/bin/sh", "-c", "printf 'one\\ntwo\\n' | " + kNvtxProgram + " cat"});
  EXPECT_EQ(recording.run.out, "one\ntwo\n");
}

TEST_F(ProfileCli, QuietSaysNothing) {
  EXPECT_THAT(Recording({kNvtxProgram, "range", "a"}, {"-q"}).run, exits(0, ""));
}

TEST_F(ProfileCli, UsageErrorsComeBeforeTheRun) {
  const std::string touch = "/usr/bin/touch";
  EXPECT_EQ(profile({}).exit_code, 2);
  EXPECT_EQ(profile({"--"}).exit_code, 2);
  EXPECT_EQ(profile({"--no-such-flag", touch, "ran"}).exit_code, 2);
  EXPECT_THAT(profile({"--no-such-flag", touch, "ran"}).err, HasSubstr("--no-such-flag"));
  EXPECT_EQ(profile({"-o", "/no/such/folder/t.db", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"-o", "-", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"-o", "t.%x.db", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"-o", "t.%r.db", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"--flush-period", "soon", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"--ring-size", "1", "--", touch, "ran"}).exit_code, 2);
  EXPECT_EQ(profile({"--merge", "a.db", "--", touch, "ran"}).exit_code, 2);
  std::ofstream(folder_ / "there.db") << "precious";
  EXPECT_THAT(profile({"-o", "there.db", "--", touch, "ran"}), exits(2, HasSubstr("-f")));
  EXPECT_EQ(files_in(folder_.path()), 1U) << "a refused command ran, or something was left";
}

TEST_F(ProfileCli, CommandsThatCannotRun) {
  std::ofstream(folder_ / "not-executable") << "text";
  EXPECT_EQ(profile({"--", "no-such-command-anywhere"}).exit_code, 127);
  EXPECT_EQ(profile({"--", "./not-there"}).exit_code, 127);
  EXPECT_EQ(profile({"--", "./not-executable"}).exit_code, 126);
  EXPECT_EQ(profile({"--", "/"}).exit_code, 126);
  EXPECT_EQ(files_in(folder_.path()), 1U);
}

TEST_F(ProfileCli, NothingRecordedLeavesTheOlderTrace) {
  std::ofstream(folder_ / "trace.db") << "older";
  EXPECT_THAT(profile({"-f", "--", "/bin/true"}),
              exits(0, HasSubstr("the older trace.db is kept")));
  EXPECT_EQ(fs::file_size(folder_ / "trace.db"), 5U);
}

TEST_F(ProfileCli, MergeOpensItsInputsReadOnlyWhateverTheirNames) {
  const std::vector<std::string> names{"a?mode=rwc.db", "b#c%41.db"};
  for (size_t rank : {0, 1}) {
    const fs::path path = folder_.path() / names[rank];
    write_rank(path, static_cast<int64_t>(rank), 2, [](TraceDb& db) {
      db.add_loss({1}, "nvtx", "dropped", 7);
      db.set_meta("incomplete", "1");
    });
    fs::permissions(path, fs::perms::owner_read);
  }
  fs::create_directory(folder_ / "out");
  const auto before = files_in(folder_.path());
  const test::Run run = succeeded(profile({"--merge", names[0], names[1], "-o", "out/merged.db"}));
  EXPECT_EQ(files_in(folder_.path()), before);
  EXPECT_EQ(count(TraceDb::open(folder_ / "out/merged.db"), "process"), 2);
  EXPECT_THAT(run.err, HasSubstr("7"));
  EXPECT_THAT(run.err, HasSubstr("dropped"));
  EXPECT_THAT(run.err, HasSubstr("incomplete"));
}

TEST_F(ProfileCli, MergedCountersStayCounters) {
  const auto counted = [](TraceDb& db) { db.set_meta("counters", "dram"); };
  write_rank(folder_ / "a.db", 0, 2, counted);
  write_rank(folder_ / "b.db", 1, 2, counted);
  succeeded(merge());
  EXPECT_EQ(TraceDb::open(folder_ / "c.db").meta("counters"), "dram");
}

TEST_F(ProfileCli, MergeKeepsMatrixProducts) {
  write_rank(folder_ / "a.db", 0, 2);
  write_rank(folder_ / "b.db", 1, 2, [](TraceDb& db) {
    db.execute("INSERT INTO gemm SELECT MIN(id), 4, 8, 16, 'fp16', 'model' FROM op");
  });
  succeeded(merge());
  const TraceDb merged = TraceDb::open(folder_ / "c.db");
  EXPECT_EQ(count(merged, "process"), 2);
  EXPECT_EQ(merged.query_integer("SELECT rank FROM gemm JOIN op_named ON op_named.id = op_id"), 1);
}

TEST_F(ProfileCli, MergeCountsNamesMissingRanksAndKnowsOneProcessor) {
  const auto on_processor = [](TraceDb& db) {
    db.execute("DELETE FROM device");
    db.execute(
        "INSERT INTO device SELECT 7, MIN(host), 'cpu', 'a processor', 1, 1, 1, 2 FROM process");
    db.execute("UPDATE stream SET device_id = 7");
    db.set_meta("mpi_library", "Open MPI v4.1.4");
  };
  write_rank(folder_ / "a.db", 0, 4, on_processor);
  write_rank(folder_ / "b.db", 2, 4, [&](TraceDb& db) {
    on_processor(db);
    db.execute(
        "INSERT INTO tensor SELECT id + 1000, process_id, name_id, role, base, bytes / 2, source, "
        "1, 2 FROM tensor");  // each was of another size once
  });
  const test::Run run = succeeded(merge());
  EXPECT_THAT(run.err, HasSubstr("warning: no input has rank 1, 3 of 4"));
  EXPECT_THAT(run.err, HasSubstr("2 files with 2 processes, "));
  EXPECT_THAT(run.err, HasSubstr(" 12 steps\n"));
  const TraceDb merged = TraceDb::open(folder_ / "c.db");
  const int64_t tensor_rows = count(merged, "tensor");
  EXPECT_THAT(run.err, HasSubstr(fmt::format(", {} tensors, ", tensor_rows / 3 * 2)));
  EXPECT_EQ(count(merged, "device"), 1);
  EXPECT_EQ(
      count(merged, "stream WHERE device_id NOT IN (SELECT id FROM device) OR device_id IS NULL"),
      0);
  EXPECT_EQ(count(merged, "quality"), 2);
  EXPECT_EQ(merged.meta("mpi_library"), "Open MPI v4.1.4");
}

// As recordings with -o trace.%r.db leave them: a process per GPU, only the first has a rank.
TEST_F(ProfileCli, MergeCountsGpusOfRanksThatWereRecordedApart) {
  for (int64_t i : {0, 1, 2}) {
    write_synthetic_trace(folder_.path() / fmt::format("{}.db", i), {.ranks = 2}, [i](TraceDb& db) {
      db.execute(
          "UPDATE process SET pid = 100 + ?1, start_ns = 5, rank = IIF(rank, NULL, ?1), "
          "world_size = IIF(rank, NULL, MAX(2, ?1 + 1))",
          {i});
    });
  }
  const auto merged = [&](const char* first, const char* second) {
    succeeded(profile({"--merge", first, second, "-o", "c.db", "--force"}));
    return test::rows(TraceDb::open(folder_ / "c.db"),
                      "SELECT pid, rank, world_size FROM process ORDER BY pid, id");
  };
  EXPECT_THAT(merged("1.db", "0.db"), ElementsAre("100 0 4", "100 1 4", "101 2 4", "101 3 4"));
  // Ranks are missing: how many GPUs they have is not known.
  EXPECT_THAT(merged("0.db", "2.db"), ElementsAre("100 0 2", "100 - -", "102 2 3", "102 - -"));
}

struct RefusedMerge {
  const char* name;
  const char* change;  // of the second input, SQL
  const char* message;
};
class MergeRefuses : public ProfileCli, public ::testing::WithParamInterface<RefusedMerge> {};

TEST_P(MergeRefuses, NamingTheInput) {
  const auto with = [](const char* sql) { return [sql](TraceDb& db) { db.execute(sql); }; };
  write_synthetic_trace(folder_ / "a.db", {.ranks = 1}, with("UPDATE process SET pid = 100"));
  write_synthetic_trace(folder_ / "b.db", {.ranks = 1},
                        with("UPDATE process SET rank = 1, pid = 200"));
  // Behind the back of finish(), which checks.
  succeeded(
      run_program({"sqlite3", (folder_ / "b.db").string(), GetParam().change}, {}, folder_.path()));
  EXPECT_THAT(merge(), exits(2, testing::AllOf(HasSubstr(GetParam().message), HasSubstr("b.db"),
                                               Not(HasSubstr("c.db")))));
  EXPECT_EQ(files_in(folder_.path()), 2U);
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, MergeRefuses,
    ::testing::Values(
        RefusedMerge{"Replays", "INSERT INTO meta VALUES ('kind', 'replay')", "is a replay"},
        RefusedMerge{"Grids", "INSERT INTO meta VALUES ('kind', 'grid')", "is a grid"},
        RefusedMerge{"CountersAndTimes", "INSERT INTO meta VALUES ('counters', 'dram,l2')",
                     "recorded with --counters dram,l2, the inputs before it without"},
        RefusedMerge{"TheSameRank", "UPDATE process SET rank = 0", "rank 0 is in a.db and in b.db"},
        RefusedMerge{
            "OtherHosts",
            "UPDATE process SET host = 'elsewhere'; UPDATE collective SET communicator = 77",
            "of elsewhere: has no collective in common"},
        RefusedMerge{"EndsBeforeBeginnings", "UPDATE op SET end_ns = start_ns - 1 WHERE id = 3",
                     "row 3 of op ends before"},
        RefusedMerge{"NamesThatAreNotThere", "UPDATE op SET name_id = 99999 WHERE id = 3",
                     "is damaged: a row of op refers to a missing row of string"}),
    [](const auto& refused) { return std::string(refused.param.name); });

TEST_F(ProfileCli, AnotherToolsInjectionIsRefusedByName) {
  const Recording recording({kNvtxProgram, "range", "a"}, {},
                            {"NVTX_INJECTION64_PATH=/opt/other/libother.so"});
  EXPECT_THAT(recording.run, exits(2, HasSubstr("/opt/other/libother.so")));
}

TEST_F(ProfileCli, AnExistingPreloadIsKept) {
  // A sanitized preserve-profile would object to being loaded behind another library.
  const Recording recording({"/bin/sh", "-c", "echo $LD_PRELOAD"}, {},
                            {"LD_PRELOAD=libm.so.6", "ASAN_OPTIONS=verify_asan_link_order=0"});
  EXPECT_THAT(recording.run.out, EndsWith("libpreserve_collect.so:libm.so.6\n"));
}

TEST_F(ProfileCli, NothingRecordedIsExplained) {
  const Recording recording({"/bin/sh", "-c", "exit 5"});
  EXPECT_THAT(recording.run, exits(5, HasSubstr("nothing was recorded")));
  EXPECT_FALSE(fs::exists(recording.trace));
}

TEST_F(ProfileCli, OnlyAllowedEnvironmentIsStored) {
  const Recorded recording(
      {kNvtxProgram, "range", "a", "--api-key", "key-on-command-line", "--authToken=S3cr3t",
       "Authorization: Bearer S3cr3t", "--config={\"api_key\":\"S3cr3t\"}", "--user=admin:S3cr3t",
       "-pS3cr3t", "--header: S3cr3t", "--env=HF=S3cr3t"},
      {},
      {"HF_TOKEN=hf_abcdefghijklmnop", "OMP_NUM_THREADS=3", "NCCL_SECRET_TOKEN=sesame-sesame",
       "OMP_PLACES=hf_abcdefghijklmnop", "NCCL_NET=0123456789abcdef0123456789abcdef", "EDITOR=ed"});
  EXPECT_EQ(recording.list("SELECT value FROM env WHERE name = 'OMP_NUM_THREADS'"), "3");
  const std::string bytes = read_text_file(recording.trace);
  for (const char* secret : {"hf_abcdef", "sesame", "0123456789abcdef", "EDITOR", "HF_TOKEN",
                             "key-on-command-line", "S3cr3t"}) {
    EXPECT_THAT(bytes, Not(HasSubstr(secret)));
  }
  EXPECT_EQ(recording.list("SELECT command FROM process"),
            "nvtx_program --api-key --authToken --config --user -p --env");
}

TEST_F(ProfileCli, ArgumentsAreStoredOnRequestButForSecrets) {
  const Recording recording({kNvtxProgram, "range", "a", "--api-key", "key-on-command-line"},
                            {"--store-arguments"});
  EXPECT_THAT(recording.list("SELECT command FROM process"),
              EndsWith("/nvtx_program range a --api-key ***"));
}

TEST_F(ProfileCli, SeveralRanksCannotShareAnOutput) {
  const Recording recording({kNvtxProgram, "range", "a"}, {},
                            {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK=0"});
  EXPECT_THAT(recording.run, exits(2, HasSubstr("trace.%r.db")));
}

TEST_F(ProfileCli, KeptSpoolConvertsAgain) {
  succeeded(profile({"-o", "a.db", "--keep-spool", "raw", "--", kNvtxProgram, "threads"}));
  EXPECT_EQ(files_in(folder_ / "raw"), 1U);
  succeeded(profile({"--convert", "raw", "-o", "b.db"}));
  const char* everything = "SELECT COUNT(*), SUM(start_ns), SUM(end_ns) FROM op";
  EXPECT_EQ(rows(TraceDb::open(folder_ / "a.db"), everything),
            rows(TraceDb::open(folder_ / "b.db"), everything));
  EXPECT_EQ(profile({"-o", "c.db", "--keep-spool", "raw", "--", kNvtxProgram, "threads"}).exit_code,
            2);
}

// The name is taken while the command runs.
TEST_F(ProfileCli, ARecordingOutlivesATraceThatCannotBeWritten) {
  const test::Run run = profile(
      {"-o", "t.db", "--", "/bin/sh", "-c", kNvtxProgram + " range a; echo mine > t.db; exit 7"},
      {"TMPDIR=" + folder_.path().string()});
  EXPECT_EQ(run.exit_code, 7) << run.err;
  EXPECT_EQ(fs::file_size(folder_ / "t.db"), 5U);
  const std::string command = "preserve-profile --convert ";
  const size_t at = run.err.rfind(command);
  ASSERT_NE(at, std::string::npos) << run.err;
  EXPECT_EQ(run.err.find('\n', at), run.err.size() - 1) << "it is not the last line";
  const size_t begin = at + command.size();
  const std::string spool = run.err.substr(begin, run.err.find(' ', begin) - begin);
  succeeded(profile({"--convert", spool, "-o", "u.db"}));
  EXPECT_EQ(count(TraceDb::open(folder_ / "u.db"), "range"), 1);
  EXPECT_THAT(
      run_program({"/bin/sh", "-c",
                   "ulimit -f 20; exec " + kProfile + " -o v.db -- " + kNvtxProgram + " range a"},
                  {"TMPDIR=" + folder_.path().string()}, folder_.path()),
      exits(125, HasSubstr(command)));
}

TEST_F(ProfileCli, ASpoolThatCannotBeReadCostsOneProcess) {
  succeeded(profile({"-o", "a.db", "--keep-spool", "raw", "--", kNvtxProgram, "range", "a"}));
  std::ofstream(folder_ / "raw" / "0-1-0.spool") << "";
  EXPECT_THAT(profile({"--convert", "raw", "-o", "b.db"}),
              exits(0, HasSubstr("0-1-0.spool: is too short")));
  const TraceDb db = TraceDb::open(folder_ / "b.db");
  EXPECT_EQ(count(db, "range"), 1);
  EXPECT_EQ(db.query_integer("SELECT count FROM loss WHERE source = 'spool' AND kind = 'damaged'"),
            1);
  EXPECT_EQ(db.meta("incomplete"), "1");
}

using ProfileCliDeathTest = ProfileCli;
TEST_F(ProfileCliDeathTest, AStopSignalEndsTheConversionAtOnce) {
  const fs::path unfinished = folder_ / "unfinished.db";
  std::ofstream(unfinished) << "part";
  EXPECT_EXIT(
      {
        const EndOnSignal guard(unfinished.string(), "kept in DIR\n");
        (void)raise(SIGINT);
      },
      testing::ExitedWithCode(130), "kept in DIR");
  EXPECT_FALSE(fs::exists(unfinished));
}

TEST_F(ProfileCli, ForeignSpoolsAreRefused) {
  fs::create_directory(folder_ / "raw");
  std::ofstream(folder_ / "raw" / "x.spool") << std::string(5000, 'x');
  EXPECT_THAT(profile({"--convert", "raw", "-o", "t.db"}),
              exits(2, HasSubstr("raw/x.spool: is not a preserve spool file")));
  EXPECT_EQ(files_in(folder_.path()), 1U);
  EXPECT_EQ(profile({"--convert", "nowhere", "-o", "t.db"}).exit_code, 2);
}

// A preserve-profile in a process group of its own, whose command has said that it is ready: what
// it has recorded is in its spool.
constexpr const char* kBeforeTheSignal =
    "SELECT COUNT(*) FROM range_named WHERE name = 'before the signal'";
class Waiting {
 public:
  Waiting() {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      dup2(ends[1], STDOUT_FILENO);
      const std::string output = (folder_ / "trace.db").string();
      execl(kProfile.c_str(), kProfile.c_str(), "-q", "--flush-period", "10ms", "-o",
            output.c_str(), "--", kNvtxProgram.c_str(), "wait", nullptr);
      _exit(127);
    }
    close(ends[1]);
    char ready[8] = {};
    if (read(ends[0], ready, sizeof(ready)) <= 0) throw std::runtime_error("never ready");
    close(ends[0]);
  }
  int end(bool whole_group, int signal) {
    kill(whole_group ? -pid_ : pid_, signal);
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  TraceDb db() const { return TraceDb::open(folder_ / "trace.db"); }
  size_t files() const { return files_in(folder_.path()); }

 private:
  TemporaryDirectory folder_;
  pid_t pid_ = 0;
};

TEST_F(ProfileCli, InterruptLeavesAnIncompleteTrace) {
  Waiting waiting;
  EXPECT_EQ(waiting.end(true, SIGINT), 130);
  EXPECT_EQ(waiting.db().meta("incomplete"), "1");
  EXPECT_EQ(waiting.db().query_integer(kBeforeTheSignal), 1);
  EXPECT_EQ(waiting.files(), 1U);
}

TEST_F(ProfileCli, SignalsToTheProfilerReachTheCommand) {
  Waiting waiting;
  EXPECT_EQ(waiting.end(false, SIGTERM), 128 + SIGTERM);
  EXPECT_EQ(waiting.db().query_integer(kBeforeTheSignal), 1);
}

TEST_F(ProfileCli, SpoolsAreRemovedAndTmpdirIsObeyed) {
  const TemporaryDirectory temporary;
  const Recording recording(
      {"/bin/sh", "-c", "ls -d $TMPDIR/preserve-spool.*; " + kNvtxProgram + " range a"}, {},
      {"TMPDIR=" + temporary.path().string()});
  EXPECT_THAT(recording.run.out, HasSubstr("preserve-spool."));
  EXPECT_EQ(files_in(temporary.path()), 0U);
}

TEST_F(ProfileCli, ProgramsOutsideAreUntouched) {
  // The collector alone, without a folder to write into, records nothing and disturbs nothing.
  const test::Run run =
      run_program({kNvtxProgram, "exit", "3"},
                  {"LD_PRELOAD=" PRESERVE_PLUGIN_DIR "/libpreserve_collect.so",
                   "NVTX_INJECTION64_PATH=" PRESERVE_PLUGIN_DIR "/libpreserve_collect.so"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.out, "to stdout\n");
}

}  // namespace
}  // namespace preserve::test
