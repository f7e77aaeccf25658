// SPDX-License-Identifier: Apache-2.0
// Two grids, cell by cell.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "common/text.h"
#include "reports/grid/report.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kRows = 200;  // more are in the JSON report

CellChange change_of(const GridCell& before, const GridCell& now) {
  CellChange change{now.key, heat_mark(before), heat_mark(now), {}, {}, {}};
  if (before.sound()) change.speedup_before = before.speedup;
  if (now.sound()) change.speedup_after = now.speedup;
  if (!change.speedup_before || !change.speedup_after) return change;
  change.word = "undecided";
  if (*now.speedup->low > *before.speedup->high) change.word = "higher";
  if (*now.speedup->high < *before.speedup->low) change.word = "lower";
  return change;
}

// How far the speed-ups lie apart, decided ones before all others.
double weight_of(const CellChange& change) {
  if (change.word.empty()) return change.before == change.after ? -2 : -1;
  const double ratio = change.speedup_after->estimate / change.speedup_before->estimate;
  const double apart = ratio > 0 && std::isfinite(ratio) ? std::fabs(std::log(ratio)) : 0;
  return change.word == "undecided" ? std::min(apart, 1.0) : 2 + apart;
}

std::string mean_of(const GridReport& report) {
  const GridSummary summary = summarise(report.cells);
  const auto& mean = summary.mean_chosen ? summary.mean_chosen : summary.mean_chosen_all;
  return mean ? interval_text(*mean) : std::string("unknown");
}

std::string sentence_of(const GridComparison& comparison, const GridReport& before,
                        const GridReport& now) {
  const int64_t both = comparison.higher + comparison.lower + comparison.undecided;
  if (both == 0) {
    return fmt::format("Against {}: no cell is measured in both.", comparison.path);
  }
  return fmt::format(
      "Against {}: of {} measured in both, the plan's speed-up is higher in {}, lower in {} and "
      "undecided in {}; geometric mean {} instead of {}.",
      comparison.path, count_of(both, "cell"), comparison.higher, comparison.lower,
      comparison.undecided, mean_of(now), mean_of(before));
}

}  // namespace

GridComparison compare_grids(const GridReport& before, const GridReport& now) {
  GridComparison comparison;
  comparison.path = clean(before.input.path.string());
  std::map<CellKey, const GridCell*> earlier;
  for (const GridCell& cell : before.cells) earlier[cell.key] = &cell;
  for (const GridCell& cell : now.cells) {
    const auto found = earlier.find(cell.key);
    if (found == earlier.end()) {
      ++comparison.only_after;
      continue;
    }
    CellChange& change = comparison.cells.emplace_back(change_of(*found->second, cell));
    if (change.word == "higher") ++comparison.higher;
    if (change.word == "lower") ++comparison.lower;
    if (change.word == "undecided") ++comparison.undecided;
    earlier.erase(found);
  }
  comparison.only_before = static_cast<int64_t>(earlier.size());
  std::ranges::stable_sort(comparison.cells, std::ranges::greater(), weight_of);
  comparison.sentence = sentence_of(comparison, before, now);
  return comparison;
}

Table comparison_table(const GridComparison& comparison) {
  Table table{fmt::format("Plans measured in {} and in this grid", comparison.path),
              {"Cell", number("Before"), number("Now"), "Judgement", number("Chosen before"),
               number("Chosen now")}};
  const auto speedup = [](const std::optional<Estimated>& value) {
    return value ? Cell(ratio_text(value)) : unknown_cell("unknown");
  };
  for (size_t i = 0; i < std::min(kRows, comparison.cells.size()); ++i) {
    const CellChange& change = comparison.cells[i];
    table.rows.push_back({name_cell(name_of(change.key)), speedup(change.speedup_before),
                          speedup(change.speedup_after), change.word, change.before, change.after});
  }
  return table;
}

}  // namespace preserve::report
