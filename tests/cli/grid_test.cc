// SPDX-License-Identifier: Apache-2.0
// The real preserve-replay --grid with real tools and real ranks. Nothing here asserts a speed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/output_file.h"
#include "db/grid/cells.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_grid.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A processor with two ranks and a slow network, so that there is something to plan.
constexpr const char* kDevice = R"({
  "schema": "preserve/device", "version": "1.0", "name": "test cpu", "kind": "cpu",
  "source": "published: made for this test", "ranks": 2, "cache_bytes": 33554432,
  "cache_budget_bytes": 8388608, "memory_bytes": 400000000,
  "memory_bandwidth_bytes_per_s": 2e10, "cache_read_bandwidth_bytes_per_s": 6e10,
  "slowdown_per_byte_ns": 0.0001, "op_floor_ns": 200, "flops_fp16_per_s": 1e11,
  "survival": [],
  "methods": [{"name": "load", "placement": "consumer", "bandwidth_bytes_per_s": 1.5e10,
               "start_latency_ns": 1000, "hit_read_bandwidth_bytes_per_s": 5e10,
               "chunk_bytes": 16384}],
  "collectives": [{"function": "allreduce", "library": "mpi", "ranks": 2, "latency_ns": 200000,
                   "bandwidth_bytes_per_s": 1e9, "max_relative_error": 0.1}],
  "notes": []
})";

class GridCli : public testing::Test {
 protected:
  GridCli() { std::ofstream(directory_ / "device.json") << kDevice; }

  static std::vector<std::string> command(std::vector<std::string> words) {
    std::vector<std::string> argv{PRESERVE_BIN_DIR "/preserve-replay", "--grid"};
    argv.insert(argv.end(), words.begin(), words.end());
    // Oversubscribed: the tests run on whatever machine there is.
    for (const char* word :
         {"--models", PRESERVE_SOURCE_DIR "/examples/models", "--device-file", "device.json",
          "--time-limit", "50ms", "--oversubscribe", "--color", "never"}) {
      argv.emplace_back(word);
    }
    return argv;
  }
  test::Run run(const std::vector<std::string>& argv) const {
    // Open MPI leaks at exit; see replay_test.
    return test::run_program(argv, {"ASAN_OPTIONS=detect_leaks=0"}, directory_.path());
  }
  test::Run grid(const std::vector<std::string>& words) const { return run(command(words)); }
  // Sends `signal` to the tool as soon as it has finished its first cell.
  test::Run grid_ended_by(const char* signal, const std::vector<std::string>& words) const {
    std::vector<std::string> argv{
        "sh", "-c",
        fmt::format("mkfifo err; \"$@\" 2>err & pid=$!\n"
                    "while read -r line; do case $line in '[1/'*) kill -{} $pid;; esac; done <err\n"
                    "wait $pid; code=$?; rm err; exit $code",
                    signal),
        "sh"};
    const std::vector<std::string> tool = command(words);
    argv.insert(argv.end(), tool.begin(), tool.end());
    return run(argv);
  }
  std::vector<GridCell> cells() const { return read_cells(TraceDb::open(directory_ / "grid.db")); }
  std::vector<std::string> leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      const std::string name = entry.path().filename().string();
      if (name != "device.json" && name != "grid.db") names.push_back(name);
    }
    return names;
  }

  const std::vector<std::string> kSmall{"models=stories42m,stories110m", "tp=2", "batch=1,4",
                                        "context=256", "dtype=fp16"};
  test::TemporaryDirectory directory_;
};

TEST_F(GridCli, GoesOnAfterItWasKilled) {
  const test::Run killed = grid_ended_by("KILL", kSmall);
  EXPECT_EQ(killed.exit_code, 128 + 9);
  const std::vector<GridCell> before = cells();
  ASSERT_EQ(before.size(), 4U);
  EXPECT_EQ(before[0].status, CellStatus::done) << before[0].reason;
  EXPECT_EQ(before[3].status, CellStatus::pending);
  const test::Run half = grid({"tp=4", "dtype=fp16"});
  EXPECT_EQ(half.exit_code, 2);
  EXPECT_THAT(half.err, HasSubstr("was begun with selection \"tp=2 batch=1,4"));

  const test::Run rest = grid(kSmall);
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("going on in grid.db: "));
  EXPECT_THAT(rest.err, HasSubstr("next: preserve-report grid.db -o grid.html"));
  EXPECT_THAT(rest.out, AllOf(HasSubstr("stories42m, fp16"), HasSubstr("stories110m, fp16"),
                              HasSubstr("4 cells: 4 measured, 0 N/A, 0 failed, 0 pending")));
  const std::vector<GridCell> after = cells();
  for (const GridCell& cell : after) {
    EXPECT_EQ(cell.status, CellStatus::done) << cell.reason;
    EXPECT_GE(cell.arms.size(), 5U);
    EXPECT_GT(cell.predicted_speedup, 1) << "a slow network gives something to do";
    EXPECT_GE(cell.chosen_speedup, 0.995);
  }
  EXPECT_EQ(after[0].dur_ns, before[0].dur_ns) << "was not measured again";
  EXPECT_THAT(leftovers(), testing::IsEmpty());
  EXPECT_EQ(TraceDb::open(directory_ / "grid.db").meta("executor"), "cpu");

  const test::Run again = grid(kSmall);
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_EQ(again.out, rest.out) << "nothing left to measure";
}

TEST_F(GridCli, BeginsWithTheCellsOfTheHeadline) {
  std::string device = kDevice;  // times of four ranks too
  const size_t fit = device.find("{\"function\"");
  std::string four = device.substr(fit, device.find('}', fit) + 1 - fit);
  four.replace(four.find("\"ranks\": 2"), 10, "\"ranks\": 4");
  device.insert(fit, four + ", ");
  std::ofstream(directory_ / "device.json") << device;
  const std::vector<std::string> words{"models=stories42m", "tp=2,4", "batch=16,1", "context=256",
                                       "dtype=fp16"};
  EXPECT_EQ(grid_ended_by("TERM", words).exit_code, 128 + 15);
  const std::vector<GridCell> before = cells();
  ASSERT_EQ(before.size(), 4U);
  for (const GridCell& cell : before) {
    const bool first = cell.key.ranks == 4 && cell.key.batch == 1;
    EXPECT_EQ(cell.status == CellStatus::done, first) << name_of(cell.key) << cell.reason;
  }
  EXPECT_EQ(before[0].key.ranks, 2) << "cells are numbered as they were";
  const test::Run rest = grid(words);
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, AllOf(HasSubstr("[2/4] stories42m fp16 tp2 batch 16"),
                              HasSubstr("[4/4] stories42m fp16 tp4 batch 16")));
}

TEST_F(GridCli, StopsInOrderOnASignal) {
  const test::Run stopped = grid_ended_by(
      "TERM", {"models=stories42m", "tp=2", "batch=1,2,4,8", "context=256", "dtype=fp16"});
  EXPECT_EQ(stopped.exit_code, 128 + 15);
  EXPECT_EQ(cells()[0].status, CellStatus::done);
  EXPECT_EQ(cells()[3].status, CellStatus::pending);
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(GridCli, SaysWhyACellHasNoNumber) {
  const std::vector<std::string> words{"models=stories42m,qwen2-7b", "tp=2,4,8", "batch=1",
                                       "context=1K", "dtype=fp16"};
  const std::vector<std::string> measured{"models=stories42m", "tp=3,4", "batch=1", "context=1K",
                                          "dtype=fp16"};
  const test::Run none = grid(measured);
  EXPECT_EQ(none.exit_code, 2) << "no cell could be measured";
  EXPECT_THAT(none.err, HasSubstr("no cell could be measured"));
  EXPECT_THAT(none.err, HasSubstr("N/A, --tp: 3 ranks do not divide the 8 attention heads"));
  EXPECT_THAT(none.err, HasSubstr("failed, preserve-tune: device test cpu has no allreduce time "
                                  "for 4 ranks"));
  fs::remove(directory_ / "grid.db");

  const test::Run run = grid(words);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const std::vector<GridCell> all = cells();
  EXPECT_EQ(all[0].status, CellStatus::done) << all[0].reason;
  EXPECT_EQ(all[1].status, CellStatus::failed);
  EXPECT_EQ(all[3].status, CellStatus::not_available);
  EXPECT_THAT(all[3].reason, HasSubstr("test cpu has"));
  EXPECT_EQ(all[5].status, CellStatus::not_available);
  EXPECT_THAT(all[5].reason, HasSubstr("28 attention heads"));
  EXPECT_THAT(run.out, AllOf(HasSubstr("N/A"), HasSubstr("failed")));

  const test::Run same = grid(words);
  EXPECT_THAT(same.err,
              AllOf(HasSubstr("2 cells failed; with --retry-failed"), Not(HasSubstr("/6]"))))
      << "failed cells are skipped";
  std::vector<std::string> retry = words;
  retry.emplace_back("--retry-failed");
  EXPECT_THAT(grid(retry).err, AllOf(HasSubstr("2 failed ones are run again"), HasSubstr("[6/6]")));
}

TEST_F(GridCli, KeepsTheFilesOfEveryCellWhenAsked) {
  fs::create_directory(directory_ / "cells");
  const test::Run run = grid(
      {"models=stories42m", "tp=2", "batch=1", "context=256", "dtype=fp16", "--keep", "cells"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const fs::path cell = directory_ / "cells" / "stories42m-fp16-tp2-batch1-context256";
  for (const char* name : {"trace.db", "schedule.json", "replay.db"}) {
    EXPECT_TRUE(fs::exists(cell / name)) << name;
  }
}

TEST_F(GridCli, StopsWhereEveryReplayFailsAlike) {
  const test::Run run = test::run_program(
      command({"models=stories42m", "tp=2", "batch=1,2,3,4,5,6,7", "context=256", "dtype=fp16"}),
      {"PATH=/nonexistent"}, directory_.path());
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("5 cells in a row failed alike"), HasSubstr("openmpi-bin"),
                             Not(HasSubstr("[6/7]"))));
  for (const GridCell& cell : cells()) {
    EXPECT_EQ(cell.status, CellStatus::pending) << "the same command goes on when mpirun is there";
    EXPECT_EQ(cell.reason, "");
  }
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(GridCli, LetsPlansBeMeasuredBeforeTheyAreChosen) {
  const test::Run run = grid({"models=stories42m", "tp=2", "batch=1", "context=256", "dtype=fp16",
                              "--device", "cpu", "--closed-loop", "--measure-time", "1s"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(cells()[0].status, CellStatus::done) << cells()[0].reason;
  const TraceDb db = TraceDb::open(directory_ / "grid.db");
  EXPECT_EQ(db.meta("grid_closed_loop"), "1.00 s");
  EXPECT_EQ(db.meta("grid_replay_options"), "--device cpu --oversubscribe");
}

TEST_F(GridCli, RefusesBadWordsBeforeAnyWork) {
  const auto refused = [&](std::vector<std::string> words, const char* message) {
    const test::Run run = grid(words);
    EXPECT_EQ(run.exit_code, 2) << message;
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_FALSE(fs::exists(directory_ / "grid.db")) << message;
    EXPECT_THAT(leftovers(), testing::IsEmpty()) << message;
  };
  refused({"tp=x"}, "a whole number");
  refused({"dtype=int8"}, "states no int8 arithmetic rate");
  refused({"models=gpt9", "dtype=fp16"}, "llama3-8b");
  refused({"-o", "-", "dtype=fp16"}, "-o needs a file name");
  refused({"--measure-time", "0", "dtype=fp16"}, "must be longer than 0");
  refused({"--collective", "carrier-pigeon", "dtype=fp16"}, "--collective");
  refused({"--link", "fast", "dtype=fp16"}, "invalid duration");
  refused({"--keep", "no-such-folder", "dtype=fp16"}, "is not a folder");
  refused({"-o", "no/such/grid.db", "dtype=fp16"}, "cannot make no/such/grid.db.work");
  refused({"-f", "-o", "device.json", "dtype=fp16"}, "device.json is an input");
  const test::Run bare = run({PRESERVE_BIN_DIR "/preserve-replay", "--grid", "dtype=fp16"});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_THAT(bare.err, HasSubstr("--device-file is missing"));
}

TEST_F(GridCli, RefusesAFileThatIsNotItsOwn) {
  const auto refused = [&](const char* message) {
    const std::string before = read_text_file(directory_ / "grid.db");
    const test::Run run = grid(kSmall);
    EXPECT_EQ(run.exit_code, 2) << message;
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_EQ(read_text_file(directory_ / "grid.db"), before) << "not touched";
  };
  std::ofstream(directory_ / "grid.db") << "something else";
  refused("is not a readable trace database");
  fs::remove(directory_ / "grid.db");
  test::write_synthetic_trace(directory_ / "grid.db");
  refused("is not a grid");
  test::write_synthetic_grid(directory_ / "grid.db");
  refused("was begun with selection");
  fs::resize_file(directory_ / "grid.db", 40000);
  refused("grid.db: is ");
}

TEST_F(GridCli, ExplainsItself) {
  const test::Run help = run({PRESERVE_BIN_DIR "/preserve-replay", "--grid", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("Examples:"), HasSubstr("Exit codes:"),
                              HasSubstr("--grid [KEY=VALUES...]"), HasSubstr("--retry-failed")));
  EXPECT_THAT(run({PRESERVE_BIN_DIR "/preserve-replay", "--help"}).out, HasSubstr("--grid"));
}

}  // namespace
}  // namespace preserve
