// SPDX-License-Identifier: Apache-2.0
#include "reports/model/gains.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "reports/text.h"

namespace preserve::report {

std::vector<OperatorGain> operator_gains(const Scenario& scenario) {
  std::map<std::pair<std::string, std::string>, OperatorGain> gains;
  for (const OperatorTimes& op : scenario.operators) {
    if (!op.baseline_ns || !op.prefetch_ns) continue;
    const std::string pattern = without_layer_numbers(op.name);
    OperatorGain& gain = gains[{pattern, op.kind}];
    gain.name = pattern;
    gain.kind = op.kind;
    ++gain.operators;
    gain.recorded_ns += op.recorded_ns.value_or(0);
    gain.baseline_ns += *op.baseline_ns;
    gain.prefetch_ns += *op.prefetch_ns;
    const int64_t link_ns = op.kind == "collective" ? scenario.link_latency_ns : 0;
    gain.predicted_saved_ns += op.recorded_ns.value_or(0) + link_ns - op.predicted_ns.value_or(0);
  }
  std::vector<OperatorGain> rows;
  rows.reserve(gains.size());
  for (auto& [key, gain] : gains) rows.push_back(std::move(gain));
  std::ranges::stable_sort(rows, [](const OperatorGain& a, const OperatorGain& b) {
    return std::llabs(a.saved_ns()) > std::llabs(b.saved_ns());
  });
  return rows;
}

}  // namespace preserve::report
