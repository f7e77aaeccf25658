// SPDX-License-Identifier: Apache-2.0
// The grid without its processes: selection, time left, commands, results, the growing file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "common/error.h"
#include "replay/grid/cell_run.h"
#include "replay/grid/eta.h"
#include "replay/grid/file.h"
#include "replay/grid/models.h"
#include "replay/grid/selection.h"
#include "replay/grid/text.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_grid.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

DeviceModel device_with(double fp16, double fp8, double int8) {
  DeviceModel device;
  device.name = "d";
  device.flops_fp16_per_s = fp16;
  device.flops_fp8_per_s = fp8;
  device.flops_int8_per_s = int8;
  return device;
}

TEST(GridSelection, IsTheWholeGridOfThePaperWhenNothingIsSaid) {
  const GridSelection selection = parse_selection({});
  const auto dtypes = dtypes_for(selection, device_with(1, 1, 1));
  EXPECT_THAT(dtypes, ElementsAre("fp16", "fp8"));
  EXPECT_THAT(dtypes_for(selection, device_with(1, 0, 1)), ElementsAre("fp16", "int8"));
  EXPECT_EQ(cells_of(selection, paper_models(), dtypes).size(), 6U * 2 * 3 * 6 * 5);
}

TEST(GridSelection, IsNarrowedByWords) {
  const GridSelection selection = parse_selection(
      {"tp=4,8", "context=2K,100,8k", "batch=1", "dtype=int8", "models=a,b/c.json"});
  EXPECT_THAT(selection.ranks, ElementsAre(4, 8));
  EXPECT_THAT(selection.contexts, ElementsAre(2048, 100, 8192));
  EXPECT_THAT(selection.models, ElementsAre("a", "b/c.json"));
  EXPECT_EQ(text_of(selection, {"int8"}), "tp=4,8 batch=1 context=2048,100,8192 dtype=int8");
}

TEST(GridSelection, RefusesWhatItIsNot) {
  const auto refused = [](const std::vector<std::string>& words, const char* says) {
    EXPECT_THAT([&] { parse_selection(words); }, test::fails_with(says)) << words.front();
  };
  refused({"layers=3"}, "the keys are models, tp, batch, context and dtype");
  refused({"grid.db"}, "selects nothing");
  refused({"tp="}, "empty value");
  refused({"tp=4,,8"}, "empty value");
  refused({"tp=4", "tp=8"}, "tp= is given twice");
  refused({"context=2K,2048"}, "2048: the value is given twice");
  refused({"\x1b[31m=1"}, "\\x1b");
  for (const char* word : {"tp=0", "tp=-1", "tp=1025", "tp=4x", "tp=x", "tp= 4", "batch=1e3",
                           "context=99999999999999999999", "context=9007199254740993K", "context=K",
                           "context=1KK", "batch=0x4"}) {
    refused({word}, "a whole number from 1 to");
  }
  const DeviceModel device = device_with(1, 0, 0);
  EXPECT_THAT([&] { dtypes_for(parse_selection({"dtype=fp64"}), device); },
              test::fails_with("the types are"));
  EXPECT_THAT([&] { dtypes_for(parse_selection({"dtype=fp8"}), device); },
              test::fails_with("add flops_fp8_per_s"));
}

TEST(GridSelection, RefusesMoreCellsThanAnybodyWaitsFor) {
  GridSelection selection;
  for (int64_t i = 1; i <= 200; ++i) {
    selection.batches.push_back(i + 100);
    selection.contexts.push_back(i);
  }
  EXPECT_THAT([&] { cells_of(selection, {"m"}, {"fp16"}); }, test::fails_with("select fewer"));
}

RC_GTEST_PROP(GridSelection, EveryCombinationIsOneCell, ()) {
  const auto some = [] {
    std::set<int64_t> values;
    const int count = *rc::gen::inRange(1, 6);
    for (int i = 0; i < count; ++i) values.insert(*rc::gen::inRange<int64_t>(1, 1000));
    return std::vector<int64_t>(values.begin(), values.end());
  };
  GridSelection selection;
  selection.ranks = some();
  selection.batches = some();
  selection.contexts = some();
  const auto cells = cells_of(selection, {"a", "b"}, {"fp16", "int8"});
  std::set<CellKey> keys;
  for (size_t i = 0; i < cells.size(); ++i) {
    RC_ASSERT(cells[i].id == static_cast<int64_t>(i) + 1);
    RC_ASSERT(cells[i].status == CellStatus::pending);
    keys.insert(cells[i].key);
  }
  RC_ASSERT(keys.size() == cells.size());
  RC_ASSERT(cells.size() ==
            4 * selection.ranks.size() * selection.batches.size() * selection.contexts.size());
}

TEST(GridModels, AreFoundByNameAndByPath) {
  const fs::path folder = fs::path(PRESERVE_SOURCE_DIR) / "examples/models";
  const auto models = find_models({"llama3-8b", (folder / "qwen2-7b.json").string()}, folder);
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[1].name, "qwen2-7b");
  EXPECT_EQ(models[0].sha256.size(), 64U);
  EXPECT_GE(find_models({}, folder).size(), 6U);
  for (const std::string& name : paper_models()) EXPECT_NO_THROW(find_models({name}, folder));
}

TEST(GridModels, ThatAreNotThereAreNamed) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "mine.json") << "{}";
  fs::create_directory(directory / "other");
  std::ofstream(directory / "other" / "mine.json") << "{}";
  const fs::path& folder = directory.path();
  EXPECT_THAT([&] { find_models({"llama"}, folder); }, test::fails_with("has mine"));
  EXPECT_THAT([&] { find_models({"no/such.json"}, folder); }, test::fails_with("no such file"));
  EXPECT_THAT([&] { find_models({}, folder / "none"); }, test::fails_with("is not a folder"));
  EXPECT_THAT(
      [&] {
        find_models({"mine", (folder / "other" / "mine.json").string()}, folder);
      },
      test::fails_with("are both called mine"));
}

std::vector<GridCell> finished(const std::vector<int64_t>& measured_s, int not_available) {
  std::vector<GridCell> cells;
  cells.reserve(measured_s.size());
  for (const int64_t seconds : measured_s) {
    cells.push_back({.status = CellStatus::done, .dur_ns = seconds * 1'000'000'000});
  }
  for (int i = 0; i < not_available; ++i) cells.push_back({.status = CellStatus::not_available});
  cells.push_back({});
  return cells;
}

TEST(GridEta, IsNotMovedByOneCellThatHung) {
  EXPECT_EQ(remaining_ns(finished({}, 0), 5), std::nullopt);
  EXPECT_EQ(remaining_ns(finished({6, 6, 6}, 0), 10), 60e9);
  EXPECT_EQ(remaining_ns(finished({6, 6, 600}, 0), 10), 60e9);
  EXPECT_EQ(remaining_ns(finished({6, 6}, 2), 10), 30e9) << "half of the cells take no time";
}

TEST(GridEta, IsWrittenForPeople) {
  EXPECT_EQ(remaining_text(0), "about 0 s");
  EXPECT_EQ(remaining_text(12.2e9), "about 13 s");
  EXPECT_EQ(remaining_text(61e9), "about 2 min");
  EXPECT_EQ(remaining_text(3600e9), "about 1 h 0 min");
  EXPECT_EQ(remaining_text(12345e9), "about 3 h 26 min");
  EXPECT_EQ(remaining_text(1e300).substr(0, 5), "about");
}

std::string joined(const std::vector<std::string>& command) {
  return fmt::format("{}", fmt::join(command, " "));
}

TEST(GridCommands, SayEverythingOfTheCell) {
  CellSettings settings;
  settings.tune = "/bin/preserve-tune";
  settings.replay = "/bin/preserve-replay";
  settings.device_file = "device.json";
  settings.time_limit = "5s";
  settings.link = "200us";
  settings.replay_words = {"--oversubscribe"};
  const CellKey key{"m", "int8", 4, 8, 2048};
  const std::string tune = joined(tune_command(settings, key, "m.json", "w"));
  EXPECT_THAT(tune, HasSubstr("--model m.json --tp 4 --batch 8 --context 2048 --dtype int8"));
  EXPECT_THAT(tune, HasSubstr("--trace-out w/trace.db -o w/schedule.json"));
  EXPECT_THAT(tune, testing::AllOf(HasSubstr("--link 200us"), Not(HasSubstr("--measure"))));
  settings.measure_time = "20s";
  EXPECT_THAT(joined(tune_command(settings, key, "m.json", "w")),
              testing::EndsWith("--measure --measure-time 20s -- --oversubscribe"));
  const std::string replay = joined(replay_command(settings, "w"));
  EXPECT_THAT(replay, HasSubstr("w/trace.db w/schedule.json -o w/replay.db"));
  EXPECT_THAT(replay, HasSubstr("--oversubscribe"));
}

ReplayResult replay_of_three_arms() {
  ReplayResult replay;
  replay.recorded_step_ns = 1'000'000;
  replay.verdict = Verdict::fast;
  replay.arms = {{.name = "baseline", .step_ns = Estimated{1'020'000.4}},
                 {.name = "prefetch",
                  .pairs = 20,
                  .step_ns = Estimated{971'000},
                  .speedup = Estimated{1.05, 1.04, 1.06},
                  .issued_bytes = 4000},
                 {.name = "overlap", .step_ns = Estimated{990'000}},
                 {.name = "hot"}};
  replay.overlap_ratio = Estimated{1.1, 1.09, 1.11};
  replay.fidelity = 1.02;
  replay.predicted_saved_ns = 50'000;
  replay.realised_saved_ns = -7;
  replay.collective = "nccl";
  replay.planned_bytes = 4096;
  return replay;
}

Schedule small_schedule(PlanVerdict verdict) {
  Schedule schedule;
  schedule.plan.verdict = verdict;
  schedule.plan.strategy = Strategy::flow;
  schedule.plan.speedup = 1.06;
  schedule.plan.prefetch_step_ns = 943'396;
  return schedule;
}

TEST(GridResults, AreTakenFromScheduleAndReplay) {
  GridCell cell;
  take_results(small_schedule(PlanVerdict::prefetch), replay_of_three_arms(), cell);
  EXPECT_EQ(cell.status, CellStatus::done);
  EXPECT_EQ(cell.modelled_step_ns, 1'000'000);
  EXPECT_EQ(cell.choice, kPrefetch);
  EXPECT_EQ(cell.chosen_speedup, 1.05);
  EXPECT_EQ(cell.issued_bytes, 4000);
  EXPECT_EQ(cell.realised_saved_ns, -7);
  EXPECT_EQ(cell.collective, "nccl");
  ASSERT_TRUE(cell.fused && cell.fused->low);
  EXPECT_EQ(cell.fused->estimate, 1.1);
  ASSERT_EQ(cell.arms.size(), 3U) << "no sample of arm hot counted";
  EXPECT_FALSE(cell.arms[0].speedup);
  EXPECT_EQ(cell.arms[0].step_ns, 1'020'000);
  take_results(small_schedule(PlanVerdict::do_nothing), replay_of_three_arms(), cell);
  EXPECT_EQ(cell.choice, kDoNothing);
}

TEST(GridResults, OfAReplayWithoutThePlanAreRefused) {
  ReplayResult replay = replay_of_three_arms();
  replay.arms.erase(replay.arms.begin() + 1);
  GridCell cell;
  EXPECT_THAT([&] { take_results(small_schedule(PlanVerdict::prefetch), replay, cell); },
              testing::ThrowsMessage<Error>(HasSubstr("no arm prefetch")));
}

class GridFiles : public testing::Test {
 protected:
  GridFiles()
      : cells_(cells_of(parse_selection({"tp=2", "batch=1,4", "context=2K"}), {"m"}, {"fp16"})) {}

  CellRun run_of(size_t i, double speedup, const std::string& device = "gpu") const {
    CellRun run;
    run.cell = test::measured_cell(cells_[i].key, speedup);
    run.cell.id = cells_[i].id;
    run.where = MeasuredOn{device, "cuda"};
    return run;
  }
  auto opening() const {
    return [this] { GridFile(path_, identity_, cells_, false); };
  }

  test::TemporaryDirectory directory_;
  fs::path path_ = directory_ / "grid.db";
  SweepIdentity identity_{{"selection", "tp=2"}, {"seed", "1"}};
  std::vector<GridCell> cells_;
};

TEST_F(GridFiles, GoOnWhereTheyStopped) {
  {
    GridFile file(path_, identity_, cells_, false);
    EXPECT_FALSE(file.resumed());
    file.record(run_of(0, 1.1));
  }
  GridFile file(path_, identity_, cells_, false);
  EXPECT_TRUE(file.resumed());
  EXPECT_EQ(file.cells()[0].status, CellStatus::done);
  EXPECT_EQ(file.cells()[1].status, CellStatus::pending);
  EXPECT_EQ(TraceDb::open(path_).meta("incomplete"), "1");
  file.record(run_of(1, 1.2));
  EXPECT_EQ(TraceDb::open(path_).meta("incomplete"), "0");
  EXPECT_EQ(TraceDb::open(path_).meta("device_name"), "gpu");
}

TEST_F(GridFiles, AFailedCellCanBecomeAMeasuredOne) {
  GridFile file(path_, identity_, cells_, false);
  CellRun failed;
  failed.cell = cells_[0];
  failed.cell.status = CellStatus::failed;
  failed.cell.reason = "no memory";
  file.record(failed);
  file.record(run_of(0, 1.1));
  const auto cells = read_cells(TraceDb::open(path_));
  EXPECT_EQ(cells[0].status, CellStatus::done);
  EXPECT_EQ(cells[0].reason, "");
}

TEST_F(GridFiles, RefuseAnotherGridSayingWhatDiffers) {
  { const GridFile file(path_, identity_, cells_, false); }
  identity_[1].second = "2";
  EXPECT_THAT(opening(), test::fails_with("was begun with seed \"1\", this command has \"2\""));
  EXPECT_NO_THROW(GridFile(path_, identity_, cells_, true)) << "anew";
  cells_.pop_back();
  EXPECT_THAT(opening(), test::fails_with("its cells are not those"));
}

TEST_F(GridFiles, RefuseWhatIsNoGrid) {
  std::ofstream(path_) << "mine";
  EXPECT_THAT(opening(), test::fails_with("is not a readable trace database"));
  fs::remove(path_);
  test::write_synthetic_trace(path_);
  EXPECT_THAT(opening(), test::fails_with("is not a grid"));
}

TEST_F(GridFiles, RefuseACellOfAnotherDevice) {
  GridFile file(path_, identity_, cells_, false);
  file.record(run_of(0, 1.1));
  EXPECT_THAT([&] { file.record(run_of(1, 1.1, "other")); },
              test::fails_with("a grid is of one device"));
  EXPECT_EQ(read_cells(TraceDb::open(path_))[1].status, CellStatus::pending);
}

TEST_F(GridFiles, AreWorkedOnByOneAtATime) {
  const fs::path mine = fs::path(path_.string() + ".work") / "mine";
  {
    const GridWorkFolder first(path_);
    EXPECT_THAT([&] { GridWorkFolder second(path_); }, test::fails_with("is at work on"));
    fs::create_directory(first.path() / "cell-7");
    std::ofstream(mine) << "keep";
  }
  EXPECT_TRUE(fs::exists(mine)) << "files of others stay";
  EXPECT_FALSE(fs::exists(mine.parent_path() / "cell-7"));
  fs::remove(mine);
  { const GridWorkFolder again(path_); }
  EXPECT_FALSE(fs::exists(mine.parent_path()));
}

TEST(GridText, ShowsEveryKindOfCell) {
  const auto cells = test::synthetic_cells();
  EXPECT_EQ(heat_map_text(std::vector(cells.end() - 12, cells.end())),
            "Speed-up of the chosen plan. =: nothing is done; N/A: cannot be run; -: not measured "
            "yet\n"
            "\n"
            "llama3-70b, int8\n"
            "        TP 4            TP 8\n"
            " batch       4K    16K       4K    16K\n"
            "     1    1.080  1.084    1.040  1.044\n"
            "     8    1.030  1.034    1.015  1.019\n"
            "    64        =    N/A   failed      -\n");
}

TEST(GridText, SummaryNamesEveryFinding) {
  const std::string text = grid_summary_text(test::synthetic_cells());
  EXPECT_THAT(text, HasSubstr("48 cells: 39 measured, 7 N/A, 1 failed, 1 pending"));
  EXPECT_THAT(text, HasSubstr("do-nothing in 7 of 39 cells: 0 by plan, 7 because"));
  for (const char* finding :
       {"ranks 1.0", "fidelity: median 1.020x", "prediction error: median 1.0",
        "saving realised: 92 %", "slowest plan 0.98"}) {
    EXPECT_THAT(text, HasSubstr(finding));
  }
  EXPECT_EQ(grid_summary_text({}), "0 cells: 0 measured, 0 N/A, 0 failed, 0 pending\n");
}

TEST(GridText, LinesSayWhyThereIsNoNumber) {
  auto cells = test::synthetic_cells();
  EXPECT_THAT(cell_line(cells[0]),
              HasSubstr("llama3-8b fp16 tp4 batch 1 context 4K: 1.080x [1.075, 1.085], prefetch"));
  EXPECT_THAT(cell_line(cells[5]), HasSubstr("N/A, needs 225.71 GiB"));
  EXPECT_THAT(cell_line(cells[46]), HasSubstr("failed, preserve-replay"));
  cells[0].key.model = "\x1b]0;evil";
  EXPECT_THAT(cell_line(cells[0]), HasSubstr("\\x1b]0;evil"));
}

}  // namespace
}  // namespace preserve
