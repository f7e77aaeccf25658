// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/text.h"

#include <fmt/format.h>

#include "common/text.h"
#include "common/units.h"
#include "db/grid/heat_map.h"
#include "db/grid/summary.h"

namespace preserve {
namespace {

constexpr int kCellWidth = 7;

std::string ratio_text(const Estimated& ratio) {
  if (!ratio.low) return "too few pairs";
  return interval_text({*ratio.low, ratio.estimate, *ratio.high});
}

std::string text_of(const HeatMap& map) {
  std::string ranks_line = fmt::format("{:>6}", ""), context_line = fmt::format("{:>6}", "batch");
  for (const auto& [ranks, contexts] : map.columns) {
    ranks_line += fmt::format("  {:<{}}", fmt::format("TP {}", ranks),
                              kCellWidth * static_cast<int>(contexts.size()));
    context_line += "  ";
    for (const int64_t context : contexts) {
      context_line += fmt::format("{:>{}}", tokens_text(context), kCellWidth);
    }
  }
  while (ranks_line.back() == ' ') ranks_line.pop_back();
  std::string out = ranks_line + "\n" + context_line + "\n";
  for (size_t row = 0; row < map.rows.size(); ++row) {
    out += fmt::format("{:>6}", map.batches[row]);
    auto cell = map.rows[row].begin();
    for (const auto& [ranks, contexts] : map.columns) {
      out += "  ";
      for (size_t i = 0; i < contexts.size(); ++i, ++cell) {
        out += fmt::format("{:>{}}", *cell == nullptr ? "" : heat_mark(**cell), kCellWidth);
      }
    }
    out += "\n";
  }
  return out;
}

// The numbers of the valid cells, each with the cell farthest from what it should be.
std::string findings_text(const GridSummary& summary) {
  std::string out;
  const auto name = [](const GridCell* cell) { return printable(name_of(cell->key)); };
  if (summary.mean_chosen) {
    out += fmt::format(
        "geometric mean over batch <= 8 on 4 and 8 ranks {}; plans without the choice {}\n",
        interval_text(*summary.mean_chosen), interval_text(*summary.mean_plans));
  }
  if (summary.fidelity_worst != nullptr) {
    out += fmt::format(
        "fidelity: median {}, farthest {} ({})\n", format_ratio(*summary.fidelity_median),
        format_ratio(*summary.fidelity_worst->fidelity), name(summary.fidelity_worst));
  }
  if (summary.prediction_worst != nullptr) {
    out += fmt::format("prediction error: median {:.1f} points, worst {:.1f} ({})\n",
                       100 * *summary.prediction_error_median,
                       100 * *summary.prediction_error_worst, name(summary.prediction_worst));
  }
  if (summary.realised_worst != nullptr) {
    out += fmt::format(
        "saving realised: {:.0f} % over all plans; median {:.0f} %, worst {:.0f} % ({})\n",
        100 * *summary.realised_share, 100 * *summary.realised_share_median,
        100 * *realised_share(*summary.realised_worst), name(summary.realised_worst));
  }
  if (summary.worst_plan != nullptr) {
    out +=
        fmt::format("slowest plan {} ({})\n", format_ratio(summary.worst_plan->speedup->estimate),
                    name(summary.worst_plan));
  }
  return out;
}

}  // namespace

std::string cell_line(const GridCell& cell) {
  const std::string name = printable(name_of(cell.key));
  switch (cell.status) {
    case CellStatus::pending:
      return name + ": pending";
    case CellStatus::not_available:
      return fmt::format("{}: N/A, {}", name, cell.reason);
    case CellStatus::failed:
      return fmt::format("{}: failed, {}", name, cell.reason);
    case CellStatus::done:
      break;
  }
  if (!cell.plans_prefetch()) return name + ": the plan is to do nothing";
  return fmt::format("{}: {}, {}", name,
                     cell.speedup ? ratio_text(*cell.speedup) : "no pair was counted", cell.choice);
}

std::string heat_map_text(std::span<const GridCell> cells) {
  std::string out =
      "Speed-up of the chosen plan. =: nothing is done; N/A: cannot be run; -: not measured yet\n";
  for (const HeatMap& map : heat_maps(cells)) {
    out += fmt::format("\n{}, {}\n{}", printable(map.model), printable(map.dtype), text_of(map));
  }
  return out;
}

std::string grid_summary_text(std::span<const GridCell> cells) {
  const GridSummary summary = summarise(cells);
  std::string out = fmt::format("{}: {} measured, {} N/A, {} failed, {} pending\n",
                                count_of(summary.cells, "cell"), summary.done,
                                summary.not_available, summary.failed, summary.pending);
  if (summary.done == 0) return out;
  if (summary.unsound > 0) {
    out += fmt::format(
        "{} of these had too few pairs or a busy machine: nothing is done there, and their numbers "
        "do not count below\n",
        summary.unsound);
  }
  out += fmt::format(
      "do-nothing in {} of {}: {} by plan, {} because the measurement did not favour the plan\n",
      summary.planned_nothing + summary.rejected, count_of(summary.done, "cell"),
      summary.planned_nothing, summary.rejected);
  out += fmt::format("geometric mean over all measured cells {}\n",
                     interval_text(*summary.mean_chosen_all));
  if (summary.best->choice == kPrefetch) {
    out += fmt::format("best cell {} ({})\n", format_ratio(summary.best->chosen_speedup),
                       printable(name_of(summary.best->key)));
  }
  return out + findings_text(summary);
}

}  // namespace preserve
