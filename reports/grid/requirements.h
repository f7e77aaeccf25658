// SPDX-License-Identifier: Apache-2.0
// What a grid must show to count as a success of prefetching, and what it shows: the targets of the
// project, applied to the numbers of summarise().
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "db/grid/summary.h"
#include "reports/table.h"

namespace preserve::report {

struct Requirement {
  std::string text;         // "baseline within 5 % of the modelled step"
  std::optional<bool> met;  // nothing: not measured
  std::string finding;      // the number
};

// `summary` is that of `cells`.
std::vector<Requirement> requirements(std::span<const GridCell> cells, const GridSummary& summary);
Table requirement_table(const std::vector<Requirement>& requirements);

}  // namespace preserve::report
