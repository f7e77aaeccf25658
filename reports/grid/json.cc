// SPDX-License-Identifier: Apache-2.0
#include "reports/grid/report.h"
#include "reports/json_parts.h"

namespace preserve::report {
namespace {

ordered_json cell_id(const GridCell* cell) {
  return cell == nullptr ? ordered_json(nullptr) : ordered_json(cell->id);
}

ordered_json write_measured(const GridCell& cell) {
  ordered_json arms = ordered_json::object();
  for (const CellArm& arm : cell.arms) {
    arms[arm.name] = {{"step_ns", arm.step_ns}, {"speedup", estimated_ratio(arm.speedup)}};
  }
  return {{"collective", cell.collective},
          {"plan", cell.plan_verdict},
          {"strategy", cell.strategy},
          {"modelled_step_ns", cell.modelled_step_ns},
          {"predicted_step_ns", cell.predicted_step_ns},
          {"predicted_speedup", ratio(cell.predicted_speedup)},
          {"bounds",
           {{"all_hot_step_ns", cell.all_hot_step_ns},
            {"window_limited_step_ns", cell.window_limited_step_ns},
            {"cache_limited_step_ns", cell.cache_limited_step_ns}}},
          {"planned_bytes", cell.planned_bytes},
          {"issued_bytes", cell.issued_bytes},
          {"speedup", estimated_ratio(cell.speedup)},
          {"verdict", to_string(cell.verdict)},
          {"pairs", cell.pairs},
          {"busy", cell.busy},
          {"choice", cell.choice},
          {"chosen_speedup", ratio(cell.chosen_speedup)},
          {"fused_ratio", estimated_ratio(cell.fused)},
          {"fidelity", ratio(cell.fidelity)},
          {"predicted_saved_ns", cell.predicted_saved_ns},
          {"realised_saved_ns", cell.realised_saved_ns},
          {"arms", arms}};
}

ordered_json write_cell(const GridCell& cell) {
  const bool done = cell.status == CellStatus::done;
  return {{"id", cell.id},
          {"model", cell.key.model},
          {"dtype", cell.key.dtype},
          {"ranks", cell.key.ranks},
          {"batch", cell.key.batch},
          {"context", cell.key.context},
          {"status", to_text(cell.status)},
          {"reason", text_or_null(cell.reason)},
          {"dur_ns", cell.dur_ns},
          {"finished_at", text_or_null(cell.finished_at)},
          {"published_speedup", ratio(published_speedup(cell.key))},
          {"measured", done ? write_measured(cell) : ordered_json(nullptr)}};
}

ordered_json write_summary(const GridSummary& summary) {
  return {{"cells", summary.cells},
          {"done", summary.done},
          {"not_available", summary.not_available},
          {"failed", summary.failed},
          {"pending", summary.pending},
          {"unsound", summary.unsound},
          {"planned_nothing", summary.planned_nothing},
          {"rejected", summary.rejected},
          {"slower_plans", summary.slower_plans},
          {"meant_cells", summary.meant_cells},
          {"mean_chosen", interval_of_ratio(summary.mean_chosen)},
          {"mean_plans", interval_of_ratio(summary.mean_plans)},
          {"mean_chosen_all", interval_of_ratio(summary.mean_chosen_all)},
          {"slowest_chosen", ratio(summary.slowest_chosen)},
          {"best_cell", cell_id(summary.best)},
          {"worst_plan_cell", cell_id(summary.worst_plan)},
          {"prediction_error_median", ratio(summary.prediction_error_median)},
          {"prediction_error_worst", ratio(summary.prediction_error_worst)},
          {"prediction_worst_cell", cell_id(summary.prediction_worst)},
          {"realised_share", ratio(summary.realised_share)},
          {"realised_share_median", ratio(summary.realised_share_median)},
          {"realised_worst_cell", cell_id(summary.realised_worst)},
          {"fidelity_median", ratio(summary.fidelity_median)},
          {"fidelity_worst_cell", cell_id(summary.fidelity_worst)}};
}

ordered_json write_change(const CellChange& change) {
  return {{"model", change.key.model},
          {"dtype", change.key.dtype},
          {"ranks", change.key.ranks},
          {"batch", change.key.batch},
          {"context", change.key.context},
          {"before", estimated_ratio(change.speedup_before)},
          {"after", estimated_ratio(change.speedup_after)},
          {"change", text_or_null(change.word)}};
}

ordered_json write_comparison(const GridComparison& comparison) {
  return {{"path", comparison.path},
          {"sentence", comparison.sentence},
          {"higher", comparison.higher},
          {"lower", comparison.lower},
          {"undecided", comparison.undecided},
          {"only_before", comparison.only_before},
          {"only_after", comparison.only_after},
          {"cells", array_of(comparison.cells, write_change)}};
}

}  // namespace

std::string to_json(const GridReport& report) {
  ordered_json json =
      report_of("preserve/grid-report", kGridReportVersion, report.input, report.complete);
  json["sentence"] = report.sentence;
  json["warnings"] = report.warnings;
  json["facts"] = ordered_json::object();
  for (const auto& [name, value] : report.facts) json["facts"][name] = value;
  json["summary"] = write_summary(summarise(report.cells));
  json["cells"] = array_of(report.cells, write_cell);
  if (!report.earlier.empty()) json["earlier"] = array_of(report.earlier, write_comparison);
  return json.dump(1) + "\n";
}

}  // namespace preserve::report
