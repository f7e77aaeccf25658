// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "common/units.h"
#include "planner/explore/figures/figure.h"
#include "planner/explore/figures/table.h"

namespace preserve {
namespace {

// Four devices, int8, batch 4, 16K tokens (PRESERVE, main table).
struct PublishedPoint {
  const char* model;
  double speedup;
};
constexpr PublishedPoint kPublished[] = {
    {"llama3-8b", 1.59}, {"phi-3-small", 1.61}, {"llama3-70b", 1.36}, {"phi-3-medium", 1.43}};

std::string group_name(const ExploreCell& cell) {
  return fmt::format("{} {} on {} {}, allreduce {}", cell.model, cell.dtype, cell.ranks,
                     cell.device, format_duration(cell.allreduce_ns));
}

double speedup(const ExploreCell& cell, double ExploreCell::*step) {
  return cell.baseline_step_ns / (cell.*step);
}

// The allreduce time at which the speed-up first reaches `wanted`, between two cells by a straight
// line. `cells`: by ascending time.
std::optional<double> reached_at_ns(const std::vector<const ExploreCell*>& cells,
                                    double ExploreCell::*step, double wanted) {
  for (size_t i = 0; i < cells.size(); ++i) {
    const double here = speedup(*cells[i], step);
    if (here < wanted) continue;
    if (i == 0) return cells[i]->allreduce_ns;
    const double before = speedup(*cells[i - 1], step);
    return cells[i - 1]->allreduce_ns + (cells[i]->allreduce_ns - cells[i - 1]->allreduce_ns) *
                                            (wanted - before) / (here - before);
  }
  return std::nullopt;
}

std::string published_text(const std::vector<ExploreCell>& cells) {
  std::map<std::string, std::vector<const ExploreCell*>> by_model;
  for (const ExploreCell& cell : cells) {
    if (cell.done()) by_model[cell.model].push_back(&cell);
  }
  std::vector<std::vector<std::string>> rows{{"model", "published", "strategy", "largest here",
                                              "at allreduce", "published reached at allreduce"}};
  for (const PublishedPoint& point : kPublished) {
    const auto found = by_model.find(point.model);
    if (found == by_model.end()) continue;
    for (const auto& [name, step] : {std::pair("bfs", &ExploreCell::bfs_step_ns),
                                     std::pair("flow", &ExploreCell::flow_step_ns)}) {
      const ExploreCell* best = *std::ranges::max_element(
          found->second, [step = step](const ExploreCell* a, const ExploreCell* b) {
            return speedup(*a, step) < speedup(*b, step);
          });
      const auto at_ns = reached_at_ns(found->second, step, point.speedup);
      rows.push_back({point.model, fmt::format("{:.2f}", point.speedup), name,
                      fmt::format("{:.3f}", speedup(*best, step)),
                      format_duration(best->allreduce_ns),
                      at_ns ? format_duration(*at_ns) : "never"});
    }
  }
  return text_table(rows);
}

}  // namespace

std::vector<SweepSheet> speedup_sheets() {
  return {
      sheet_of("speedup", {"model=llama3-8b,llama3-70b,qwen2-7b,qwen2-72b,phi-3-small,phi-3-medium",
                           "device=ascend-910b", "dtype=int8", "tp=4", "batch=1:64:log2",
                           "context=2K:32K:log2", "allreduce=20us,50us,100us"}),
      sheet_of("published points",
               {"model=llama3-8b,phi-3-small,llama3-70b,phi-3-medium", "device=ascend-910b",
                "dtype=int8", "tp=4", "batch=4", "context=16K", "allreduce=5us:300us:+5us"})};
}

std::string speedup_text(const Sweep&, const SheetCells& cells) {
  std::string text =
      "Speed-up over no prefetching, bfs / flow. N/A: weights, KV and workspace exceed the "
      "memory.\n";
  text += batch_context_maps(cells.front(), group_name, [](const ExploreCell& cell) {
    if (!cell.done()) return std::string("N/A");
    return fmt::format("{:.3f}/{:.3f}", speedup(cell, &ExploreCell::bfs_step_ns),
                       speedup(cell, &ExploreCell::flow_step_ns));
  });
  for (const auto& [name, step] : {std::pair("bfs", &ExploreCell::bfs_step_ns),
                                   std::pair("flow", &ExploreCell::flow_step_ns)}) {
    const ExploreCell* best = nullptr;
    for (const ExploreCell& cell : cells.front()) {
      if (cell.done() && (best == nullptr || speedup(cell, step) > speedup(*best, step))) {
        best = &cell;
      }
    }
    if (best == nullptr) continue;
    text += fmt::format("largest with {}: {:.3f}, {}, batch {}, context {}\n", name,
                        speedup(*best, step), group_name(*best), best->batch,
                        tokens_text(best->context));
  }
  return text + "Published points, against the length of an allreduce\n" +
         published_text(cells.back());
}

std::vector<SweepSheet> fused_sheets() {
  return {sheet_of(
      "fused", {"model=llama3-70b", "device=ascend-910b", "dtype=fp16", "tp=4", "batch=1:1024:log2",
                "context=128:32K:log2", "network_latency=15us", "network_bandwidth=84GB/s"})};
}

std::string fused_text(const Sweep&, const SheetCells& cells) {
  std::string text =
      "Step with overlapped product and allreduce over step with prefetching, bfs / flow. Above 1\n"
      "prefetching is faster. N/A: weights, KV and workspace exceed the memory.\n";
  const auto group = [](const ExploreCell& cell) {
    return fmt::format("{} {} on {} {}", cell.model, cell.dtype, cell.ranks, cell.device);
  };
  text += batch_context_maps(cells.front(), group, [](const ExploreCell& cell) {
    if (!cell.done()) return std::string("N/A");
    return fmt::format("{:.3f}/{:.3f}", cell.fused_step_ns / cell.bfs_step_ns,
                       cell.fused_step_ns / cell.flow_step_ns);
  });
  std::vector<std::vector<std::string>> rows{
      {"context", "bfs slower from batch", "flow slower from batch"}};
  std::map<int64_t, std::vector<const ExploreCell*>> by_context;
  for (const ExploreCell& cell : cells.front()) {
    if (cell.done()) by_context[cell.context].push_back(&cell);
  }
  for (auto& [context, column] : by_context) {
    std::ranges::stable_sort(column, {}, &ExploreCell::batch);
    const auto crossover = [&cells = column](double ExploreCell::*step) {
      const auto found = std::ranges::find_if(
          cells, [step](const ExploreCell* cell) { return cell->fused_step_ns < cell->*step; });
      return found == cells.end() ? std::string("none") : std::to_string((*found)->batch);
    };
    rows.push_back({tokens_text(column.front()->context), crossover(&ExploreCell::bfs_step_ns),
                    crossover(&ExploreCell::flow_step_ns)});
  }
  return text + text_table(rows);
}

}  // namespace preserve
