// SPDX-License-Identifier: Apache-2.0
// Cells of a grid: what is chosen, what a damaged file says, what the whole says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "db/grid/cells.h"
#include "db/grid/summary.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_grid.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

GridCell cell_with(double low, double estimate, double high) {
  GridCell cell = test::measured_cell({"m", "fp16", 4, 1, 4096}, estimate);
  cell.speedup = Estimated{estimate, low, high};
  decide_choice(cell);
  return cell;
}

TEST(GridChoice, TakesThePlanOnlyWhenItsWholeIntervalIsAboveOne) {
  EXPECT_EQ(cell_with(1.01, 1.02, 1.03).choice, kPrefetch);
  EXPECT_EQ(cell_with(1.01, 1.02, 1.03).chosen_speedup, 1.02);
  for (const GridCell& cell :
       {cell_with(0.99, 1.02, 1.05), cell_with(1.0, 1.01, 1.02), cell_with(0.9, 0.95, 0.99)}) {
    EXPECT_EQ(cell.choice, kDoNothing);
    EXPECT_EQ(cell.chosen_speedup, 1);
  }
}

TEST(GridChoice, DistrustsABusyMachineTooFewPairsAndAnEmptyPlan) {
  GridCell busy = cell_with(1.01, 1.02, 1.03), few = busy, nothing = busy;
  busy.busy = true;
  few.speedup = Estimated{1.5, {}, {}};
  nothing.plan_verdict = kDoNothing;
  for (const auto& [cell, what] : {std::pair(&busy, "a busy machine"), std::pair(&few, "few pairs"),
                                   std::pair(&nothing, "an empty plan")}) {
    SCOPED_TRACE(what);
    decide_choice(*cell);
    EXPECT_EQ(cell->choice, kDoNothing);
    EXPECT_EQ(cell->chosen_speedup, 1);
  }
}

RC_GTEST_PROP(GridChoice, NeverChoosesWhatMakesSlower, ()) {
  const auto draw = [] { return *rc::gen::inRange(500, 2000) / 1000.0; };
  std::vector<double> values{draw(), draw(), draw()};
  std::sort(values.begin(), values.end());
  const GridCell cell = cell_with(values[0], values[1], values[2]);
  RC_ASSERT(cell.chosen_speedup >= 1);
  RC_ASSERT((cell.choice == kPrefetch) == (cell.chosen_speedup > 1));
}

TEST(GridCells, ComeBackAsTheyWereWritten) {
  const test::TemporaryDirectory directory;
  const std::vector<GridCell> cells = test::synthetic_cells();
  test::write_synthetic_grid(directory / "grid.db", cells);
  const std::vector<GridCell> read = read_cells(TraceDb::open(directory / "grid.db"));
  ASSERT_EQ(read.size(), cells.size());
  const auto facts_of = [](const GridCell& cell) {
    return std::tuple(cell.key, cell.status, cell.reason, cell.choice, cell.chosen_speedup,
                      cell.predicted_saved_ns, cell.fidelity, cell.fused.has_value(), cell.dur_ns,
                      cell.arms.size());
  };
  for (size_t i = 0; i < cells.size(); ++i) EXPECT_EQ(facts_of(read[i]), facts_of(cells[i])) << i;
}

void read_damaged(const std::string& sql) {
  const test::TemporaryDirectory directory;
  test::write_synthetic_grid(directory / "grid.db", test::synthetic_cells(),
                             [&](TraceDb& db) { db.execute(sql); });
  read_cells(TraceDb::open(directory / "grid.db"));
}

TEST(GridCells, ThatNoGridHoldsAreRefused) {
  for (const char* sql :
       {"UPDATE cell SET ranks = 0 WHERE id = 1", "UPDATE cell SET context = -1 WHERE id = 1",
        "UPDATE cell SET batch = 9223372036854775807 WHERE id = 1",
        "UPDATE cell SET speedup = -1 WHERE id = 1", "UPDATE cell SET speedup = 9e999 WHERE id = 1",
        "UPDATE cell SET speedup_low = NULL WHERE id = 1",
        "UPDATE cell SET speedup_low = 3 WHERE id = 1", "UPDATE cell SET fidelity = 0 WHERE id = 1",
        "UPDATE cell SET modelled_step_ns = 0 WHERE id = 1",
        "UPDATE cell SET plan_verdict = 'x' WHERE id = 1",
        "UPDATE cell SET verdict = NULL WHERE id = 1", "UPDATE cell SET busy = 7 WHERE id = 1",
        "UPDATE cell SET choice = 'do-nothing' WHERE id = 1",
        "UPDATE cell SET chosen_speedup = 1.5 WHERE id = 1",
        "UPDATE cell SET dur_ns = -5 WHERE id = 1", "UPDATE cell_arm SET step_ns = 0",
        "UPDATE cell_arm SET cell_id = 999 WHERE cell_id = 1",
        "INSERT INTO cell_arm VALUES (48, 'baseline', 5, NULL, NULL, NULL)"}) {
    EXPECT_THAT([&] { read_damaged(sql); },
                test::fails_with(ErrorKind::input, testing::HasSubstr("grid.db: is damaged")))
        << sql;
  }
}

TEST(GridSummary, CountsAndMeansWhatItSays) {
  const std::vector<GridCell> cells = test::synthetic_cells();
  const GridSummary summary = summarise(cells);
  EXPECT_EQ(summary.cells, 48);
  EXPECT_EQ(summary.done + summary.not_available + summary.failed + summary.pending, 48);
  EXPECT_EQ(summary.pending, 1);
  double sum = 0;
  int64_t count = 0;
  for (const GridCell& cell : cells) {
    if (cell.status != CellStatus::done || cell.key.batch > 8) continue;
    sum += std::log(cell.chosen_speedup);
    ++count;
  }
  EXPECT_EQ(summary.meant_cells, count);
  EXPECT_NEAR(summary.mean_chosen->estimate, std::exp(sum / static_cast<double>(count)), 1e-12);
  EXPECT_LT(summary.mean_chosen->low, summary.mean_chosen->estimate);
  EXPECT_GT(summary.mean_chosen->high, summary.mean_chosen->estimate);
  EXPECT_NEAR(*summary.prediction_error_worst, 0.01, 1e-9);
  EXPECT_NEAR(*summary.realised_share, 0.92, 1e-9);
  EXPECT_EQ(summary.slower_plans, 7) << "batch 64 on 4 and 8 ranks, one of eight failed";
}

TEST(GridSummary, CountsNoFindingsOfABusyMachine) {
  std::vector<GridCell> cells{cell_with(1.2, 1.3, 1.4)};
  cells[0].busy = true;
  decide_choice(cells[0]);
  const GridSummary summary = summarise(cells);
  EXPECT_EQ(summary.unsound, 1);
  EXPECT_EQ(summary.mean_plans->estimate, 1);
  EXPECT_EQ(summary.fidelity_worst, nullptr);
  EXPECT_EQ(summary.prediction_worst, nullptr);
  EXPECT_EQ(summary.realised_worst, nullptr);
}

}  // namespace
}  // namespace preserve
