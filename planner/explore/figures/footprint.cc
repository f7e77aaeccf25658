// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "planner/explore/figures/figure.h"
#include "planner/explore/figures/table.h"

namespace preserve {
namespace {

struct Cache {
  std::string name;
  double size_bytes;
};

// Devices that no file is shipped for. jax (jax/_src/pallas/mosaic/tpu_info.py) states 128 MiB of
// VMEM per core: one core of v5e, two of v5p.
constexpr double kMiB = 1024.0 * 1024.0;
const Cache kOthers[] = {{"TPUv5e", 128 * kMiB}, {"TPUv5p", 256 * kMiB}};

std::string megabytes(double size_bytes) {
  return fmt::format("{:.1f}", size_bytes / 1e6);
}

}  // namespace

std::vector<SweepSheet> footprint_sheets() {
  // The length of an allreduce changes no byte.
  return {sheet_of("footprint",
                   {"model=llama3-8b,llama3-70b,qwen2-7b,qwen2-72b,phi-3-small,phi-3-medium",
                    "device=ascend-910b,h100-sxm", "dtype=int8", "tp=1,2,4,8,16", "batch=8",
                    "context=16K", "allreduce=20us"})};
}

std::string footprint_text(const Sweep& sweep, const SheetCells& cells) {
  std::vector<Cache> caches;
  for (const DeviceModel& device : sweep.inputs().devices) {
    caches.push_back({device.name, static_cast<double>(device.cache_bytes)});
  }
  caches.insert(caches.end(), std::begin(kOthers), std::end(kOthers));
  std::string text =
      "Bytes of the largest layer on each device, in MB (1e6), and which halves of it each cache\n"
      "holds: A attention (weights and KV), M MLP. N/A: the devices do not divide the heads.\n";
  for (const Cache& cache : caches) {
    text += fmt::format("  {}: {} MB\n", cache.name, megabytes(cache.size_bytes));
  }
  std::vector<std::vector<std::string>> rows{
      {"model", "type", "batch", "context", "devices", "weights", "KV", "attention", "MLP"}};
  for (const Cache& cache : caches) rows[0].push_back(cache.name);
  for (const ExploreCell& cell : cells.front()) {
    if (cell.device != sweep.inputs().devices.front().name) continue;
    const int64_t attention = cell.attention_weight_bytes + cell.kv_bytes;
    std::vector<std::string>& row = rows.emplace_back();
    row = {cell.model, cell.dtype, std::to_string(cell.batch), tokens_text(cell.context),
           std::to_string(cell.ranks)};
    if (attention + cell.mlp_bytes == 0) {
      row.insert(row.end(), {"N/A", "N/A", "N/A", "N/A"});
      continue;
    }
    for (const int64_t bytes :
         {cell.attention_weight_bytes, cell.kv_bytes, attention, cell.mlp_bytes}) {
      row.push_back(megabytes(static_cast<double>(bytes)));
    }
    for (const Cache& cache : caches) {
      std::string held;
      if (static_cast<double>(attention) <= cache.size_bytes) held += 'A';
      if (static_cast<double>(cell.mlp_bytes) <= cache.size_bytes) held += 'M';
      row.push_back(held.empty() ? "-" : held);
    }
  }
  return text + text_table(rows);
}

}  // namespace preserve
