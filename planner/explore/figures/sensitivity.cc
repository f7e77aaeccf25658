// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"
#include "planner/explore/figures/figure.h"
#include "planner/explore/figures/table.h"

namespace preserve {
namespace {

// Everything as in the first sheet but for one axis.
SweepSheet varied(const char* title, const char* axis) {
  SweepSheet sheet = sheet_of(
      title, {"model=llama3-8b,llama3-70b", "device=ascend-910b", "dtype=int8", "tp=4", "batch=4",
              "context=16K", "network_latency=20us", "network_bandwidth=84GB/s"});
  sheet.set(parse_axis(axis));
  return sheet;
}

}  // namespace

std::vector<SweepSheet> sensitivity_sheets() {
  return {varied("devices", "tp=2,4,8"),
          varied("key-value heads of the model", "kv_heads=1,2,4,8,16,32"),
          varied("cache", "l2=8MiB:512MiB:log2"),
          varied("network bandwidth", "network_bandwidth=10GB/s:640GB/s:log2"),
          varied("network latency", "network_latency=2us:256us:log2"),
          varied("type", "dtype=fp16,int8,int4"),
          varied("memory bandwidth", "bandwidth=400GB/s:6400GB/s:log2"),
          varied("context", "context=1K:128K:log2"),
          varied("batch", "batch=1:256:log2")};
}

std::string sensitivity_text(const Sweep& sweep, const SheetCells& cells) {
  std::string text =
      "Speed-up over no prefetching. all hot: bound, everything cached. fused: product and\n"
      "allreduce overlapped, no prefetching.\n";
  for (size_t i = 0; i < cells.size(); ++i) {
    const SweepSheet& sheet = sweep.sheets()[i];
    std::vector<std::vector<std::string>> rows{{"model", "devices", "type", "batch", "context",
                                                "kv heads", "cache", "memory", "allreduce", "step",
                                                "bfs", "flow", "fused", "all hot"}};
    for (const ExploreCell& cell : cells[i]) {
      rows.push_back(
          {cell.model, std::to_string(cell.ranks), cell.dtype, std::to_string(cell.batch),
           tokens_text(cell.context), std::to_string(cell.kv_heads), format_size(cell.cache_bytes),
           format_rate(cell.memory_bandwidth_bytes_per_s),
           cell.done() ? format_duration(cell.allreduce_ns) : "N/A",
           cell.done() ? format_duration(cell.baseline_step_ns) : "N/A",
           ratio_text(cell, &ExploreCell::baseline_step_ns, &ExploreCell::bfs_step_ns),
           ratio_text(cell, &ExploreCell::baseline_step_ns, &ExploreCell::flow_step_ns),
           ratio_text(cell, &ExploreCell::baseline_step_ns, &ExploreCell::fused_step_ns),
           ratio_text(cell, &ExploreCell::baseline_step_ns, &ExploreCell::all_hot_step_ns)});
    }
    text += sheet.title + "\n" + text_table(rows);
  }
  return text;
}

}  // namespace preserve
