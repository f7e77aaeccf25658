// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/units.h"
#include "planner/explore/figures/figure.h"
#include "planner/explore/figures/table.h"

namespace preserve {
namespace {

using Step = double ExploreCell::*;

constexpr size_t kFewSettings = 8;  // can be surveyed without counting them

// tokens/s of one device per mm2 or per unit of cost.
double density(const ExploreCell& cell, Step step, std::optional<double> ExploreCell::*size) {
  return static_cast<double>(cell.batch) * kNsPerS / (cell.*step) /
         static_cast<double>(cell.ranks) / (cell.*size).value_or(0);
}

bool counts(const ExploreCell& cell) {
  return cell.done() && cell.area_mm2 && cell.cost;
}

// Cells that differ in their cache alone, in the order of its size. A cache that does not hold the
// activations of a step is no candidate: the generator takes them for cached.
std::vector<std::pair<std::string, std::vector<const ExploreCell*>>> by_capacity(
    const std::vector<ExploreCell>& cells) {
  std::vector<std::pair<std::string, std::vector<const ExploreCell*>>> groups;
  std::map<std::string, size_t> places;
  for (const ExploreCell& cell : cells) {
    if (!counts(cell) || cell.cache_bytes < cell.activation_bytes) continue;
    const std::string name = fmt::format(
        "{} {} on {} {}, batch {}, context {}, {}, allreduce {}", cell.model, cell.dtype,
        cell.ranks, cell.device, cell.batch, tokens_text(cell.context),
        format_rate(cell.memory_bandwidth_bytes_per_s), format_duration(cell.allreduce_ns));
    const auto [place, fresh] = places.try_emplace(name, groups.size());
    if (fresh) groups.emplace_back(name, std::vector<const ExploreCell*>{});
    groups[place->second].second.push_back(&cell);
  }
  for (auto& [name, group] : groups) {
    std::ranges::stable_sort(group, {}, &ExploreCell::cache_bytes);
  }
  return groups;
}

const ExploreCell& best(const std::vector<const ExploreCell*>& cells, Step step,
                        std::optional<double> ExploreCell::*size) {
  return **std::ranges::max_element(cells, [&](const ExploreCell* a, const ExploreCell* b) {
    return density(*a, step, size) < density(*b, step, size);
  });
}

std::string curve(const std::vector<const ExploreCell*>& cells) {
  std::vector<std::vector<std::string>> rows{{"cache", "area mm2", "cost", "tokens/s", "bfs",
                                              "flow", "tokens/s/mm2", "bfs", "flow", "front"}};
  double most = 0;  // of tokens/s with flow, at smaller areas
  for (const ExploreCell* cell : cells) {
    const auto rate = [&](Step step) {
      return static_cast<double>(cell->batch) * kNsPerS / (cell->*step);
    };
    const auto per_area = [&](Step step) {
      return fmt::format("{:.4f}", density(*cell, step, &ExploreCell::area_mm2));
    };
    const bool front = rate(&ExploreCell::flow_step_ns) > most;
    most = std::max(most, rate(&ExploreCell::flow_step_ns));
    rows.push_back({format_size(cell->cache_bytes), fmt::format("{:.0f}", *cell->area_mm2),
                    fmt::format("{:.0f}", *cell->cost),
                    fmt::format("{:.1f}", rate(&ExploreCell::baseline_step_ns)),
                    fmt::format("{:.1f}", rate(&ExploreCell::bfs_step_ns)),
                    fmt::format("{:.1f}", rate(&ExploreCell::flow_step_ns)),
                    per_area(&ExploreCell::baseline_step_ns), per_area(&ExploreCell::bfs_step_ns),
                    per_area(&ExploreCell::flow_step_ns), front ? "*" : ""});
  }
  return text_table(rows);
}

std::vector<std::string> optimum_row(const std::string& name,
                                     const std::vector<const ExploreCell*>& cells,
                                     std::optional<double> ExploreCell::*size) {
  const ExploreCell& without = best(cells, &ExploreCell::baseline_step_ns, size);
  std::vector<std::string> row{name, format_size(without.cache_bytes)};
  for (const Step step : {&ExploreCell::bfs_step_ns, &ExploreCell::flow_step_ns}) {
    const ExploreCell& with = best(cells, step, size);
    row.push_back(format_size(with.cache_bytes));
    row.push_back(fmt::format(
        "{:.3f}",
        density(with, step, size) / density(without, &ExploreCell::baseline_step_ns, size)));
  }
  return row;
}

std::string optima(const std::vector<ExploreCell>& cells,
                   std::optional<double> ExploreCell::*size) {
  std::vector<std::vector<std::string>> rows{
      {"best cache", "without", "bfs", "gain", "flow", "gain"}};
  std::map<int64_t, int64_t> settings;  // by the best cache with flow
  for (const auto& [name, group] : by_capacity(cells)) {
    rows.push_back(optimum_row(name, group, size));
    ++settings[best(group, &ExploreCell::flow_step_ns, size).cache_bytes];
  }
  std::string text = text_table(rows);
  if (rows.size() <= kFewSettings) return text;
  text += "  settings by their best cache with flow:";
  for (const auto& [cache_bytes, count] : settings) {
    text += fmt::format(" {} {},", format_size(cache_bytes), count);
  }
  text.back() = '\n';
  return text;
}

constexpr const char* kCapacities =
    "l2=1MiB,2MiB,4MiB,8MiB,12MiB,16MiB,24MiB,32MiB,40MiB,48MiB,56MiB,64MiB,72MiB,80MiB,88MiB,"
    "96MiB,"
    "104MiB,112MiB,120MiB,128MiB,144MiB,160MiB,192MiB,224MiB,256MiB";

}  // namespace

std::vector<SweepSheet> design_sheets() {
  return {
      sheet_of("capacity",
               {"model=llama3-8b,llama3-70b", "device=ascend-910b", "dtype=int8", "tp=4", "batch=4",
                "context=16K", kCapacities, "network_latency=20us", "network_bandwidth=84GB/s"}),
      sheet_of("assumptions", {"model=llama3-8b,llama3-70b", "device=ascend-910b", "dtype=int8",
                               "tp=4", "batch=1,4,16,64", "context=4K,16K", kCapacities,
                               "network_latency=10us,20us,50us,100us", "network_bandwidth=84GB/s"}),
      sheet_of("memory bandwidth",
               {"model=llama3-8b,llama3-70b", "device=ascend-910b", "dtype=int8", "tp=4", "batch=4",
                "context=16K", kCapacities, "bandwidth=800GB/s,1600GB/s,3200GB/s",
                "network_latency=20us", "network_bandwidth=84GB/s"})};
}

std::string design_text(const Sweep& sweep, const SheetCells& cells) {
  std::string text = fmt::format(
      "Throughput per area and cost by the capacity of the cache; constants {}. A device has the\n"
      "area of its cache, arithmetic, memory and network links. front: no smaller device is "
      "faster.\n",
      sweep.inputs().area->name);
  for (const auto& [name, group] : by_capacity(cells.front())) text += name + "\n" + curve(group);
  for (size_t i = 0; i < cells.size(); ++i) {
    text += fmt::format(
        "{}: the cache with the most tokens/s per mm2, and the gain over the best "
        "one without prefetching\n{}",
        sweep.sheets()[i].title, optima(cells[i], &ExploreCell::area_mm2));
  }
  return text + fmt::format("capacity: the same per cost of die and memory\n{}",
                            optima(cells.front(), &ExploreCell::cost));
}

}  // namespace preserve
