// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "reports/render.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

std::string cell(const std::optional<int64_t>& value) {
  return value ? fmt::format("{}", *value) : "";
}

void add_row(std::string& out, const std::string& scenario, const OperatorTimes& op) {
  out += fmt::format("{},{},{},{},{},{},{},{}\r\n", csv_text(scenario), op.ordinal,
                     csv_text(op.name), csv_text(op.kind), cell(op.recorded_ns),
                     cell(op.predicted_ns), cell(op.baseline_ns), cell(op.prefetch_ns));
}

}  // namespace

// One row per operator of the step and scenario; without a schedule one scenario called "recorded".
// An empty cell is an unknown value. Columns are only ever added at the end.
std::string to_csv(const Report& report) {
  std::string out =
      "scenario,ordinal,operator,kind,recorded_ns,predicted_ns,baseline_ns,prefetch_ns\r\n";
  for (const Scenario& scenario : report.scenarios) {
    for (const OperatorTimes& op : scenario.operators) add_row(out, scenario.label, op);
  }
  if (report.scenarios.empty() && report.step) {
    for (const TimelineOp& op : report.step->ops) {
      add_row(out, "recorded", {op.ordinal, op.name, op.kind, op.dur_ns, {}, {}, {}});
    }
  }
  return out;
}

}  // namespace preserve::report
