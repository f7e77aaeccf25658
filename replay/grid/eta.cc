// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/eta.h"

#include <fmt/format.h>

#include <cmath>

#include "common/stats.h"
#include "common/units.h"

namespace preserve {
namespace {

double total_of(const std::vector<double>& durations_ns) {
  return durations_ns.empty() ? 0 : median(durations_ns) * static_cast<double>(durations_ns.size());
}

}  // namespace

std::optional<double> remaining_ns(std::span<const GridCell> cells, int64_t cells_left) {
  std::vector<double> measured, other;
  for (const GridCell& cell : cells) {
    if (cell.status == CellStatus::pending) continue;
    (cell.status == CellStatus::done ? measured : other)
        .push_back(static_cast<double>(cell.dur_ns));
  }
  const size_t finished = measured.size() + other.size();
  if (finished == 0) return std::nullopt;
  return (total_of(measured) + total_of(other)) / static_cast<double>(finished) *
         static_cast<double>(cells_left);
}

std::string remaining_text(double dur_ns) {
  const double seconds = dur_ns / kNsPerS;
  if (seconds < 60) return fmt::format("about {:.0f} s", std::ceil(seconds));
  const auto minutes = static_cast<int64_t>(std::min(std::ceil(seconds / 60), 1e9));
  if (minutes < 60) return fmt::format("about {} min", minutes);
  return fmt::format("about {} h {} min", minutes / 60, minutes % 60);
}

}  // namespace preserve
