// SPDX-License-Identifier: Apache-2.0
// The report of an exploration: maps find their cells, curves their optima, hostile names stay
// text.
#include "reports/explore/report.h"
#include "reports/page/parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/reports/two_scenarios.h"
#include "tests/support/errors.h"

namespace preserve::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

ExploreCell cell_of(int64_t id, int64_t batch, int64_t cache_bytes, double flow_ns) {
  ExploreCell cell{.id = id, .model = "llama3-8b", .device = "chip", .dtype = "int8"};
  cell.ranks = 4;
  cell.batch = batch;
  cell.context = 4096;
  cell.cache_bytes = cache_bytes;
  cell.memory_bandwidth_bytes_per_s = cell.arithmetic_per_s = 1e12;
  cell.status = kExploreDone;
  cell.attention_weight_bytes = 2 * kMiB;
  cell.kv_bytes = cell.mlp_bytes = kMiB;
  cell.rank_bytes = cell.workspace_bytes = kMiB;
  cell.allreduce_ns = 20'000;
  cell.baseline_step_ns = 1e6;
  cell.bfs_step_ns = cell.fused_step_ns = 0.95e6;
  cell.flow_step_ns = flow_ns;
  cell.all_hot_step_ns = 0.5e6;
  cell.area_mm2 = 100 + static_cast<double>(cache_bytes) / kMiB;
  return cell;
}

// Batch 1 and 2 by caches of 8, 16 and 32 MiB; the last cell cannot be run.
std::vector<ExploreCell> small_sweep() {
  std::vector<ExploreCell> cells;
  int64_t id = 0;
  for (const int64_t batch : {1, 2}) {
    for (const auto& [mib, flow_ns] :
         {std::pair(8, 1e6), std::pair(16, 0.8e6), std::pair(32, 0.79e6)}) {
      cells.push_back(cell_of(++id, batch, mib * kMiB, flow_ns));
    }
  }
  cells.back().status = kExploreNotAvailable;
  cells.back().reason = "the model does not fit";
  cells.back().baseline_step_ns = cells.back().bfs_step_ns = cells.back().flow_step_ns = 0;
  cells.back().fused_step_ns = cells.back().all_hot_step_ns = 0;
  return cells;
}

class Exploration : public ::testing::Test {
 protected:
  ExploreReport report_of(const std::vector<ExploreCell>& cells) {
    const auto path = directory_ / "explore.db";
    std::filesystem::remove(path);
    TraceDb db = TraceDb::create(path);
    db.set_meta("kind", kExploreKind);
    db.set_meta("explore_cells", "6");
    db.set_meta("explore_figure", "");
    const ExploreSheet sheet{"capacity",
                             {{"model", {"llama3-8b"}},
                              {"batch", {"1", "2"}},
                              {"l2", {"8388608", "16777216", "33554432"}}},
                             1,
                             6};
    db.set_meta("explore_sheets", preserve::to_text(std::vector<ExploreSheet>{sheet}));
    for (const ExploreCell& cell : cells) insert_explore_cell(db, explore_values(cell));
    db.finish();
    return build_explore_report(all_of_kind({path}, InputKind::explore).at(0));
  }
  test::TemporaryDirectory directory_;
};

TEST_F(Exploration, MapsFindTheirCellsByTheAxesThatVary) {
  const ExploreReport report = report_of(small_sweep());
  const std::vector<ExploreMap> maps = explore_maps(report, 10);
  ASSERT_EQ(maps.size(), 1U);
  EXPECT_EQ(maps[0].row_key, "batch");
  EXPECT_EQ(maps[0].column_key, "cache");
  EXPECT_THAT(maps[0].rows, ElementsAre("1", "2"));
  EXPECT_THAT(maps[0].columns, ElementsAre("8.0 MiB", "16.0 MiB", "32.0 MiB"));
  for (size_t row = 0; row < 2; ++row) {
    for (size_t column = 0; column < 3; ++column) {
      EXPECT_EQ(maps[0].cells[row][column]->id, static_cast<int64_t>(1 + 3 * row + column));
    }
  }
  EXPECT_EQ(cell_mark(maps[0].cells[0][1], 1.25), "1.250");
  EXPECT_EQ(cell_mark(maps[0].cells[1][2], 1), "N/A");
  EXPECT_EQ(cell_mark(nullptr, 1), "-");
}

TEST_F(Exploration, CurvesHaveBothOptima) {
  const ExploreReport report = report_of(small_sweep());
  const std::vector<CapacityCurve> curves = capacity_curves(report);
  ASSERT_EQ(curves.size(), 2U);
  EXPECT_TRUE(curves[0].per_area);
  EXPECT_EQ(curves[0].cells[curves[0].best_baseline]->cache_bytes, 8 * kMiB);
  EXPECT_EQ(curves[0].cells[curves[0].best_flow]->cache_bytes, 16 * kMiB);
  EXPECT_NEAR(density(curves[0], *curves[0].cells[0], 1e6), 1000.0 / 108, 1e-9);
}

TEST_F(Exploration, IsWrittenInEveryFormat) {
  const ExploreReport report = report_of(small_sweep());
  EXPECT_THAT(report.sentence, HasSubstr("5 of 6 cells"));
  EXPECT_EQ(schema_errors(to_json(report), kExploreReportSchema), "");
  for (const Format format : {Format::html, Format::md}) {
    EXPECT_THAT(render(report, format), HasSubstr("1.250"));
    EXPECT_THAT(render(report, format), HasSubstr("N/A"));
  }
  EXPECT_EQ(count_of(to_csv(report), "\n"), 7U);
  for (const char* id : {"maps", "footprint", "design", "explored"}) {
    EXPECT_THAT(to_html(report), HasSubstr(std::string("<h2 id=\"") + id + "\""));
    EXPECT_THAT(html_definition_link(id), HasSubstr("#metrics-Explorations"));
  }
}

TEST_F(Exploration, ShowsHostileNamesAsText) {
  std::vector<ExploreCell> cells = small_sweep();
  for (ExploreCell& cell : cells) {
    cell.model = "</script><script>alert(1)</script>";
    cell.device = "=cmd|' /C calc'!A0";
  }
  const ExploreReport report = report_of(cells);
  EXPECT_THAT(to_html(report), testing::Not(HasSubstr("<script>alert")));
  EXPECT_THAT(to_csv(report), HasSubstr("\"'=cmd|"));
}

TEST_F(Exploration, ThatIsNotCompleteSaysSo) {
  std::vector<ExploreCell> cells = small_sweep();
  cells.resize(2);
  const ExploreReport report = report_of(cells);
  EXPECT_EQ(explore_maps(report, 10)[0].cells[1][0], nullptr);
  EXPECT_THAT(to_html(report), HasSubstr("not reached"));
}

TEST_F(Exploration, IsComparedWithAnotherByWhatVaries) {
  const ExploreReport before = report_of(small_sweep());
  std::vector<ExploreCell> cells = small_sweep();
  for (ExploreCell& cell : cells) {
    cell.allreduce_ns = 60'000;  // the change: fixed in both, so not what cells are known by
    cell.device = "other chip";
  }
  cells[1].flow_step_ns /= 2;
  cells[2].cache_bytes = 64 * kMiB;  // another value of what varies is another cell
  ExploreReport now = report_of(cells);
  now.earlier = {compare_explorations(before, now)};
  const ExploreComparison& found = now.earlier[0];
  EXPECT_EQ(found.cells.size(), 4U);
  EXPECT_EQ(found.only_before, 1);
  EXPECT_EQ(found.only_after, 1);
  EXPECT_EQ(found.cells[0].flow_ratio(), 2) << "the largest change first";
  EXPECT_THAT(found.cells[0].name, HasSubstr("l2 16.0 MiB"));
  EXPECT_THAT(found.sentence, HasSubstr("faster in 1 and slower in 0"));
  EXPECT_EQ(schema_errors(to_json(now), kExploreReportSchema), "");
  EXPECT_THAT(to_html(now), HasSubstr("<h2 id=\"earlier\""));
  EXPECT_THAT(to_markdown(now), HasSubstr("faster in 1"));
  EXPECT_EQ(count_of(changes_csv(now), "\n"), 5U);
}

TEST_F(Exploration, IsNamedWithoutOtherKinds) {
  report_of(small_sweep());
  test::write_synthetic_trace(directory_ / "trace.db");
  const std::vector<std::filesystem::path> both{directory_ / "trace.db", directory_ / "explore.db"};
  EXPECT_THAT([&] { all_of_kind(both, InputKind::explore); },
              test::fails_with(ErrorKind::usage, HasSubstr("trace.db does not belong to it")));
}

}  // namespace
}  // namespace preserve::report
