// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "reports/grid/report.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr std::array kArms{"baseline", "prefetch", "null", "useless", "hot", "overlap"};

std::string number(const std::optional<double>& value) {
  return value ? fmt::format("{:.6f}", *value) : "";
}

std::string ratio(const std::optional<Estimated>& value) {
  if (!value) return ",,";
  return fmt::format("{},{},{}", number(value->estimate), number(value->low), number(value->high));
}

// Columns that only a measured cell has; as many commas for the others.
std::string measured_columns(const GridCell& cell) {
  std::string out = fmt::format(
      "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}", csv_text(cell.plan_verdict),
      csv_text(cell.strategy), number(cell.predicted_speedup), ratio(cell.speedup),
      csv_text(to_string(cell.verdict)), cell.pairs, int{cell.busy}, csv_text(cell.choice),
      number(cell.chosen_speedup), ratio(cell.fused), number(cell.fidelity), cell.modelled_step_ns,
      cell.predicted_saved_ns, cell.realised_saved_ns, cell.planned_bytes, cell.issued_bytes,
      cell.window_limited_step_ns);
  for (const char* name : kArms) {
    const CellArm* arm = arm_of(cell, name);
    out += arm == nullptr ? "," : fmt::format(",{}", arm->step_ns);
  }
  return out;
}

constexpr const char* kMeasuredHeads =
    "plan,strategy,predicted_speedup,speedup,speedup_low,speedup_high,verdict,pairs,busy,choice,"
    "chosen_speedup,fused_ratio,fused_ratio_low,fused_ratio_high,fidelity,modelled_step_ns,"
    "predicted_saved_ns,realised_saved_ns,planned_bytes,issued_bytes,window_limited_step_ns,"
    "baseline_ns,prefetch_ns,null_ns,useless_ns,hot_ns,overlap_ns";

std::string no_columns() {
  const std::string_view heads = kMeasuredHeads;
  return std::string(static_cast<size_t>(std::ranges::count(heads, ',')), ',');
}

}  // namespace

// One row per cell; an empty field is an unknown value. Columns are only ever added at the end.
std::string to_csv(const GridReport& report) {
  std::string out = fmt::format(
      "model,dtype,ranks,batch,context,status,{},published_speedup,dur_ns,finished_at,reason,"
      "collective\r\n",
      kMeasuredHeads);
  for (const GridCell& cell : report.cells) {
    const CellKey& key = cell.key;
    const bool done = cell.status == CellStatus::done;
    out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}\r\n", csv_text(key.model),
                       csv_text(key.dtype), key.ranks, key.batch, key.context, to_text(cell.status),
                       done ? measured_columns(cell) : no_columns(), number(published_speedup(key)),
                       cell.dur_ns, csv_text(cell.finished_at), csv_text(cell.reason),
                       csv_text(cell.collective));
  }
  return out;
}

std::string changes_csv(const GridReport& report) {
  std::string out =
      "earlier,model,dtype,ranks,batch,context,before,before_low,before_high,after,after_low,"
      "after_high,change,chosen_before,chosen_after\r\n";
  for (const GridComparison& earlier : report.earlier) {
    for (const CellChange& change : earlier.cells) {
      out += fmt::format("{},{},{},{},{},{},{},{},{},{},{}\r\n", csv_text(earlier.path),
                         csv_text(change.key.model), csv_text(change.key.dtype), change.key.ranks,
                         change.key.batch, change.key.context, ratio(change.speedup_before),
                         ratio(change.speedup_after), csv_text(change.word),
                         csv_text(change.before), csv_text(change.after));
    }
  }
  return out;
}

}  // namespace preserve::report
