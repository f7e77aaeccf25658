// SPDX-License-Identifier: Apache-2.0
// The report of a grid: golden texts, schema, hostile names, a page that a real browser accepts.
#include "reports/grid/report.h"
#include "common/text.h"
#include "reports/page/parts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/reports/two_scenarios.h"
#include "tests/support/synthetic_grid.h"

namespace preserve::report {
namespace {

using test::TemporaryDirectory;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

GridReport report_of(const std::filesystem::path& path) {
  return build_grid_report(all_of_kind({path}, InputKind::grid).at(0));
}

GridReport synthetic_report() {
  const TemporaryDirectory directory;
  test::write_synthetic_grid(directory / "grid.db");
  return report_of(directory / "grid.db");
}

TEST(GridReport, TablesAreTheGoldenOnes) {
  const GridReport report = synthetic_report();
  const std::string csv = to_csv(report), markdown = to_markdown(report);
  EXPECT_EQ(csv, test::golden("grid.csv", csv)) << "UPDATE_GOLDEN=1 rewrites it";
  EXPECT_EQ(markdown, test::golden("grid.md", markdown)) << "UPDATE_GOLDEN=1 rewrites it";
}

TEST(GridReport, JsonFollowsItsSchemaAndTheSummary) {
  const GridReport report = synthetic_report();
  EXPECT_EQ(schema_errors(to_json(report), kGridReportSchema), "");
  const auto json = nlohmann::json::parse(to_json(report));
  EXPECT_EQ(json["cells"].size(), 48U);
  EXPECT_EQ(json["complete"], false);
  EXPECT_EQ(json["summary"]["done"], summarise(report.cells).done);
  EXPECT_TRUE(json["cells"][5]["measured"].is_null());
}

TEST(GridReport, OfNothingMeasuredIsAReportToo) {
  const TemporaryDirectory directory;
  test::write_synthetic_grid(
      directory / "grid.db", {test::synthetic_cells().back()},
      [](TraceDb& db) { db.execute("DELETE FROM meta WHERE key IN ('device_name', 'executor')"); });
  const GridReport report = report_of(directory / "grid.db");
  EXPECT_EQ(report.sentence, "Nothing is measured yet.");
  EXPECT_EQ(schema_errors(to_json(report), kGridReportSchema), "");
  EXPECT_THAT(to_html(report), HasSubstr("was not measured"));
}

TEST(GridReport, PutsPublishedNumbersBesideTheSameCellAlone) {
  EXPECT_EQ(published_speedup({"llama3-8b", "int8", 4, 4, 16384}), 1.59);
  EXPECT_EQ(published_speedup({"llama3-8b", "fp8", 4, 4, 16384}), 1.59);
  EXPECT_EQ(published_speedup({"llama3-8b", "fp16", 4, 4, 16384}), std::nullopt);
  EXPECT_EQ(published_speedup({"llama3-8b", "int8", 8, 4, 16384}), std::nullopt);
  EXPECT_EQ(published_speedup({"qwen2-7b", "int8", 4, 4, 16384}), std::nullopt);
}

TEST(GridHeatMaps, HoldEveryCellAtItsPlace) {
  const GridReport report = synthetic_report();
  const auto maps = heat_maps(report.cells);
  ASSERT_EQ(maps.size(), 4U);
  size_t cells = 0;
  for (const HeatMap& map : maps) {
    for (size_t row = 0; row < map.rows.size(); ++row) {
      size_t column = 0;
      for (const auto& [ranks, contexts] : map.columns) {
        for (const int64_t context : contexts) {
          const GridCell* cell = map.rows[row][column++];
          ASSERT_NE(cell, nullptr);
          EXPECT_EQ(cell->key, (CellKey{map.model, map.dtype, ranks, map.batches[row], context}));
          ++cells;
        }
      }
    }
  }
  EXPECT_EQ(cells, 48U);
}

TEST(GridHtml, ShowsANumberInEveryMeasuredCell) {
  const std::string html = to_html(synthetic_report());
  EXPECT_EQ(count_of(html, "<td class=\"h na"), 7U + 2) << "two more in the map of overlap";
  EXPECT_EQ(count_of(html, "<td class=\"h bad"), 1U);
  EXPECT_THAT(html, AllOf(HasSubstr(">1.080</td>"), HasSubstr(">=</td>"), HasSubstr(">N/A</td>")));
  EXPECT_EQ(count_of(html, "Cells without a number"), 1U);
  EXPECT_EQ(count_of(html, "<th "), count_of(html, "<th scope="));
  for (const char* id : {"heat", "findings", "fused", "published", "settings", "cells"}) {
    EXPECT_EQ(count_of(html, fmt::format("<h2 id=\"{}\"", id)), 1U) << id;
    EXPECT_THAT(html_definition_link(id), HasSubstr("#metrics-The-grid")) << id;
  }
  expect_balanced(html, {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "span", "p"});
}

const std::string kScript = "</script><script>document.title='pwned'</script>";
const std::string kImage = "\"><img src=x onerror=alert(1)>";

GridReport hostile_report(const TemporaryDirectory& directory) {
  test::write_synthetic_grid(directory / "grid.db", test::synthetic_cells(), [](TraceDb& db) {
    db.execute("UPDATE cell SET model = ? || id WHERE id < 20", {kScript});
    db.execute("UPDATE cell SET dtype = ? || id, reason = ? WHERE id > 30",
               {std::string("\u202E|`@all`|\x1b[31m"), kImage + std::string(1'000'000, 'n')});
    db.execute("UPDATE cell SET strategy = ?, finished_at = ?", {kImage, std::string("=1+1")});
    db.execute("UPDATE cell_arm SET arm = ? WHERE arm = 'null'", {kImage});
    db.execute("UPDATE meta SET value = ? WHERE key LIKE 'grid_%' OR key = 'device_name'",
               {kScript + "{{data}}"});
    db.execute("UPDATE cell SET collective = ? WHERE status = 'done'", {kImage});
  });
  return report_of(directory / "grid.db");
}

TEST(GridHtml, ShowsHostileNamesAsTextAndNothingElse) {
  const TemporaryDirectory directory;
  const GridReport report = hostile_report(directory);
  const std::string html = to_html(report);
  EXPECT_EQ(count_of(html, "<script"), 2U) << "the data block";
  EXPECT_EQ(count_of(html, "</script"), 2U);
  EXPECT_EQ(count_of(html, "<img"), 0U);
  EXPECT_THAT(html,
              AllOf(Not(HasSubstr("\u202E")), Not(HasSubstr("\x1b")), Not(HasSubstr("url("))));
  EXPECT_LT(html.size(), 2'000'000U) << "a reason of one megabyte is cut";
  EXPECT_EQ(schema_errors(to_json(report), kGridReportSchema), "");
  EXPECT_THAT(to_csv(report), HasSubstr("\"'=1+1\""));
  EXPECT_THAT(to_markdown(report), Not(HasSubstr("\u202E")));
}

TEST(GridHtml, LeavesARealBrowsersConsoleEmpty) {
  const TemporaryDirectory directory;
  const test::Run run = in_chromium(to_html(hostile_report(directory)));
  if (run.exit_code != 0 || run.out.empty())
    GTEST_SKIP() << "chromium does not run here: " << run.err;
  EXPECT_THAT(run.err, Not(HasSubstr("CONSOLE"))) << run.err;
  EXPECT_THAT(run.out, HasSubstr("<title>Preserve grid report</title>"));
  EXPECT_THAT(run.out, HasSubstr("id=\"cells\"")) << "parsed to the end";
}

TEST(GridComparison, MeetsCellsAndJudgesThemByIntervals) {
  const TemporaryDirectory directory;
  const CellKey same{"llama3-8b", "int8", 4, 1, 4096}, better{"llama3-8b", "int8", 4, 8, 4096};
  const CellKey worse{"llama3-8b", "int8", 4, 64, 4096}, lost{"llama3-8b", "int8", 8, 1, 4096};
  const auto grid = [&](const char* name, const std::vector<std::pair<CellKey, double>>& speedups) {
    std::vector<GridCell> cells;
    for (const auto& [key, speedup] : speedups) {
      cells.push_back(test::measured_cell(key, speedup));
      cells.back().id = static_cast<int64_t>(cells.size());
    }
    test::write_synthetic_grid(directory / name, cells);
    return report_of(directory / name);
  };
  const GridReport before =
      grid("before.db", {{same, 1.1}, {better, 1.1}, {worse, 1.1}, {lost, 1.1}});
  GridReport now = grid("grid.db", {{same, 1.101}, {better, 1.3}, {worse, 1.0}});
  now.earlier = {compare_grids(before, now)};
  const GridComparison& found = now.earlier[0];
  EXPECT_EQ(found.higher, 1);
  EXPECT_EQ(found.lower, 1);
  EXPECT_EQ(found.undecided, 1);
  EXPECT_EQ(found.only_before, 1);
  EXPECT_EQ(found.cells.at(0).key, better) << "the largest change first";
  EXPECT_EQ(found.cells.at(0).word, "higher");
  EXPECT_EQ(schema_errors(to_json(now), kGridReportSchema), "");
  EXPECT_THAT(to_html(now), AllOf(HasSubstr("<h2 id=\"earlier\""), HasSubstr("before.db")));
  EXPECT_THAT(to_markdown(now), HasSubstr("higher in 1"));
  const std::string csv = changes_csv(now), first = csv.substr(csv.find('\n') + 1);
  EXPECT_EQ(count_of(csv, "\r\n"), 4U);
  EXPECT_THAT(first, HasSubstr(",\"llama3-8b\",\"int8\",4,8,4096,1.1"));
  EXPECT_EQ(count_of(first.substr(0, first.find('\r')), ","),
            count_of(csv.substr(0, csv.find('\r')), ","));
}

TEST(GridInputs, AreFilesOfOneKind) {
  const TemporaryDirectory directory;
  test::write_synthetic_grid(directory / "grid.db");
  test::write_synthetic_trace(directory / "trace.db");
  EXPECT_TRUE(all_of_kind({directory / "trace.db"}, InputKind::grid).empty());
  EXPECT_THROW(all_of_kind({directory / "trace.db", directory / "grid.db"}, InputKind::grid),
               Error);
  EXPECT_THROW(all_of_kind({directory / "grid.db", directory / "grid.db"}, InputKind::grid), Error);
  EXPECT_THROW(read_inputs({directory / "grid.db"}), Error);
  test::write_synthetic_grid(directory / "grid.db", {});
  EXPECT_THROW(report_of(directory / "grid.db"), Error) << "no cell";
}

TEST(GridFindings, AreNumbersOrNotMeasured) {
  const std::vector<GridCell> cells = test::synthetic_cells();
  const Table found = finding_table(summarise(cells)), nothing = finding_table(summarise({}));
  ASSERT_EQ(found.rows.size(), nothing.rows.size());
  for (size_t row = 0; row < found.rows.size(); ++row) {
    EXPECT_NE(found.rows[row][1].text, "not measured") << found.rows[row][0].text;
    EXPECT_EQ(nothing.rows[row][1].text, "not measured") << found.rows[row][0].text;
  }
}

}  // namespace
}  // namespace preserve::report
