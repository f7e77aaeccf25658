// SPDX-License-Identifier: Apache-2.0
// The real preserve-replay --grid. How it resumes, stops and retries is driven with scripts in
// place of preserve-tune and the measuring preserve-replay, which copy files made beforehand; two
// tests use the real tools and ranks. Nothing here asserts a speed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/output_file.h"
#include "db/grid/cells.h"
#include "db/replay_result.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_grid.h"

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

  // Oversubscribed: the tests run on whatever machine there is.
  static test::Words command(const test::Words& words,
                             const std::string& tool = PRESERVE_BIN_DIR "/preserve-replay") {
    return test::words(tool, "--grid", words, "--models", PRESERVE_SOURCE_DIR "/examples/models",
                       "--device-file", "device.json", "--time-limit", "50ms", "--oversubscribe",
                       "--color", "never");
  }
  test::Run run(const test::Words& argv) const {
    return test::run_program(argv, {test::kNoLeakCheck}, directory_.path());
  }
  test::Run grid(const std::vector<std::string>& words) const { return run(command(words)); }
  std::vector<GridCell> cells() const { return read_cells(TraceDb::open(directory_ / "grid.db")); }
  test::Words leftovers() const {
    test::Words names = test::names_in(directory_.path());
    std::erase_if(names, [](const std::string& name) {
      return name == "device.json" || name == "grid.db" || name == "tools";
    });
    return names;
  }

  const std::vector<std::string> small_{"models=stories42m,stories110m", "tp=2", "batch=1,4",
                                        "context=256", "dtype=fp16"};
  test::TemporaryDirectory directory_;
};

// A copy of the tool in a folder whose preserve-tune and preserve-replay are scripts.
class ScriptedGrid : public GridCli {
 protected:
  ScriptedGrid() {
    fs::create_directory(tools_);
    test::write_two_scenarios(tools_);
    fs::copy_file(PRESERVE_BIN_DIR "/preserve-replay", tools_ / "grid");
    write_script("preserve-tune", "");
    write_script("preserve-replay", "");
  }
  // Copies the file of the tool to where -o says, after `first`; $n is the number of the call.
  void write_script(const std::string& name, const std::string& first) const {
    const char* made = name == "preserve-tune" ? "schedule.json" : "replay.db";
    std::ofstream(tools_ / name) << fmt::format(
        "#!/bin/sh\n"
        "echo call >> tools/{0}.calls; n=$(grep -c call tools/{0}.calls)\n"
        "{1}\n"
        "while [ $# -gt 0 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n"
        "cp tools/{2} \"$out\"\n",
        name, first, made);
    fs::permissions(tools_ / name, fs::perms::owner_all);
  }
  test::Run scripted(const std::vector<std::string>& words) const {
    return run(command(words, (tools_ / "grid").string()));
  }

  fs::path tools_ = directory_ / "tools";
};

TEST_F(ScriptedGrid, ResumesAfterItWasKilled) {
  write_script("preserve-replay", "[ $n = 3 ] && { kill -KILL $PPID; exit 1; }");
  EXPECT_EQ(scripted(small_).exit_code, 128 + 9);
  const std::vector<GridCell> before = cells();
  ASSERT_EQ(before.size(), 4U);
  EXPECT_EQ(before[1].status, CellStatus::done) << before[1].reason;
  EXPECT_EQ(before[2].status, CellStatus::pending);
  EXPECT_THAT(scripted({"tp=4", "dtype=fp16"}),
              test::exits(2, HasSubstr("selection \"tp=2 batch=1,4")));

  const test::Run rest = succeeded(scripted(small_));
  EXPECT_THAT(rest.err, HasSubstr("resuming grid.db: 2 of 4"));
  EXPECT_THAT(rest.err, HasSubstr("next: preserve-report grid.db -o grid.html"));
  EXPECT_THAT(rest.out, AllOf(HasSubstr("stories42m, fp16"), HasSubstr("stories110m, fp16"),
                              HasSubstr("4 cells: 4 measured, 0 N/A, 0 failed, 0 pending")));
  const std::vector<GridCell> after = cells();
  for (const GridCell& cell : after) {
    EXPECT_EQ(cell.status, CellStatus::done) << cell.reason;
    EXPECT_EQ(cell.arms.size(), 3U);
  }
  EXPECT_EQ(after[0].dur_ns, before[0].dur_ns) << "was not measured again";
  EXPECT_THAT(leftovers(), testing::IsEmpty());
  EXPECT_EQ(TraceDb::open(directory_ / "grid.db").meta("executor"), "cpu");

  const test::Run again = succeeded(scripted(small_));
  EXPECT_EQ(again.out, rest.out) << "nothing left to measure";
}

TEST_F(ScriptedGrid, BeginsWithTheCellsOfTheHeadline) {
  const std::vector<std::string> words{"models=stories42m", "tp=2,4", "batch=16,1", "context=256",
                                       "dtype=fp16"};
  write_script("preserve-tune", "[ $n = 2 ] && kill -TERM $PPID");
  EXPECT_EQ(scripted(words).exit_code, 128 + 15);
  const std::vector<GridCell> before = cells();
  ASSERT_EQ(before.size(), 4U);
  for (const GridCell& cell : before) {
    const bool first = cell.key.ranks == 4 && cell.key.batch == 1;
    EXPECT_EQ(cell.status == CellStatus::done, first) << name_of(cell.key) << cell.reason;
  }
  EXPECT_EQ(before[0].key.ranks, 2) << "cells keep their numbers";
  EXPECT_THAT(scripted(words),
              test::exits(0, AllOf(HasSubstr("[2/4] stories42m fp16 tp2 batch 16"),
                                   HasSubstr("[4/4] stories42m fp16 tp4 batch 16"))));
}

TEST_F(ScriptedGrid, ASignalLeavesTheCellPendingAndNothingBehind) {
  write_script("preserve-replay", "[ $n = 2 ] && kill -TERM $PPID");
  EXPECT_EQ(scripted(small_).exit_code, 128 + 15);
  EXPECT_EQ(cells()[0].status, CellStatus::done);
  EXPECT_EQ(cells()[1].status, CellStatus::pending);
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(ScriptedGrid, FailedCellsAreRetriedOnlyWhenAsked) {
  write_script("preserve-replay", "[ $n = 2 ] && { echo 'error: no core' >&2; exit 2; }");
  const test::Run run = succeeded(scripted(small_));
  EXPECT_EQ(cells()[1].status, CellStatus::failed);
  EXPECT_THAT(cells()[1].reason, HasSubstr("no core"));
  EXPECT_THAT(run.out, HasSubstr("failed"));
  const test::Run same = scripted(small_);
  EXPECT_THAT(same.err,
              AllOf(HasSubstr("1 cell failed; with --retry-failed"), Not(HasSubstr("/4]"))));
  succeeded(scripted(test::words(small_, "--retry-failed")));
  EXPECT_EQ(cells()[1].status, CellStatus::done);
}

TEST_F(GridCli, SaysWhyACellHasNoNumber) {
  EXPECT_THAT(
      grid({"models=stories42m,qwen2-7b", "tp=3,4", "batch=1", "context=1K", "dtype=fp16"}),
      test::exits(2, AllOf(HasSubstr("no cell could be measured"),
                           HasSubstr("N/A, --tp: 3 ranks do not divide the 8 attention heads"),
                           HasSubstr("failed, preserve-tune: device test cpu has no allreduce time "
                                     "for 4 ranks"))));
  const std::vector<GridCell> all = cells();
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[1].status, CellStatus::failed);
  EXPECT_EQ(all[2].status, CellStatus::not_available);
  EXPECT_THAT(all[2].reason, HasSubstr("28 attention heads"));
  EXPECT_EQ(all[3].status, CellStatus::not_available);
  EXPECT_THAT(all[3].reason, HasSubstr("test cpu has"));
}

TEST_F(GridCli, MeasuresWithTheRealToolsAndKeepsTheirFiles) {
  fs::create_directory(directory_ / "cells");
  succeeded(grid(
      {"models=stories42m", "tp=2", "batch=1", "context=256", "dtype=fp16", "--keep", "cells"}));
  const fs::path cell = directory_ / "cells" / "stories42m-fp16-tp2-batch1-context256";
  for (const char* name : {"trace.db", "schedule.json", "replay.db"}) {
    EXPECT_TRUE(fs::exists(cell / name)) << name;
  }
  EXPECT_EQ(cells()[0].status, CellStatus::done) << cells()[0].reason;
  std::vector<std::string> arms;
  for (const ArmResult& arm : read_result(TraceDb::open(cell / "replay.db")).arms) {
    arms.push_back(arm.name);
  }
  EXPECT_THAT(arms, testing::ElementsAre("baseline", "prefetch", "null", "useless", "hot"));
}

TEST_F(GridCli, StopsWhereEveryReplayFailsAlike) {
  EXPECT_THAT(test::run_program(command({"models=stories42m", "tp=2", "batch=1,2,3,4,5,6,7",
                                         "context=256", "dtype=fp16"}),
                                {"PATH=/nonexistent"}, directory_.path()),
              test::exits(2, AllOf(HasSubstr("5 cells in a row failed alike"),
                                   HasSubstr("openmpi-bin"), Not(HasSubstr("[6/7]")))));
  for (const GridCell& cell : cells()) {
    EXPECT_EQ(cell.status, CellStatus::pending)
        << "the same command resumes once mpirun is installed";
    EXPECT_EQ(cell.reason, "");
  }
  EXPECT_THAT(leftovers(), testing::IsEmpty());
}

TEST_F(GridCli, LetsPlansBeMeasuredBeforeTheyAreChosen) {
  succeeded(grid({"models=stories42m", "tp=2", "batch=1", "context=256", "dtype=fp16", "--device",
                  "cpu", "--closed-loop", "--measure-time", "1s"}));
  EXPECT_EQ(cells()[0].status, CellStatus::done) << cells()[0].reason;
  const TraceDb db = TraceDb::open(directory_ / "grid.db");
  EXPECT_EQ(db.meta("grid_closed_loop"), "1.00 s");
  EXPECT_EQ(db.meta("grid_replay_options"), "--device cpu --oversubscribe");
}

TEST_F(GridCli, RefusesBadWordsBeforeAnyWork) {
  const auto refused = [&](const std::vector<std::string>& words, const char* message) {
    EXPECT_THAT(grid(words), test::exits(2, HasSubstr(message))) << message;
    EXPECT_FALSE(fs::exists(directory_ / "grid.db")) << message;
    EXPECT_THAT(leftovers(), testing::IsEmpty()) << message;
  };
  refused({"tp=x"}, "a whole number");
  refused({"dtype=int8"}, "states no int8 arithmetic rate");
  refused({"models=gpt9", "dtype=fp16"}, "llama3-8b");
  refused({"-o", "-", "dtype=fp16"}, "cannot go to standard output: name a file");
  refused({"--measure-time", "0", "dtype=fp16"}, "must be longer than 0");
  refused({"--collective", "carrier-pigeon", "dtype=fp16"}, "--collective");
  refused({"--link", "fast", "dtype=fp16"}, "invalid duration");
  refused({"--keep", "no-such-folder", "dtype=fp16"}, "is not a folder");
  refused({"-o", "no/such/grid.db", "dtype=fp16"}, "cannot make no/such/grid.db.work");
  refused({"-f", "-o", "device.json", "dtype=fp16"}, "device.json is an input");
  EXPECT_THAT(run({PRESERVE_BIN_DIR "/preserve-replay", "--grid", "dtype=fp16"}),
              test::exits(2, HasSubstr("--device-file is missing")));
}

TEST_F(GridCli, RefusesAFileThatIsNotItsOwn) {
  const auto refused = [&](const char* message) {
    const std::string before = read_text_file(directory_ / "grid.db");
    EXPECT_THAT(grid(small_), test::exits(2, HasSubstr(message))) << message;
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
  const test::Run help = succeeded(run({PRESERVE_BIN_DIR "/preserve-replay", "--grid", "--help"}));
  EXPECT_THAT(help.out, AllOf(HasSubstr("Examples:"), HasSubstr("Exit codes:"),
                              HasSubstr("--grid [KEY=VALUES...]"), HasSubstr("--retry-failed")));
  EXPECT_THAT(run({PRESERVE_BIN_DIR "/preserve-replay", "--help"}).out, HasSubstr("--grid"));
}

}  // namespace
}  // namespace preserve
