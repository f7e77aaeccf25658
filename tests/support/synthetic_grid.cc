// SPDX-License-Identifier: Apache-2.0
#include "tests/support/synthetic_grid.h"

#include <algorithm>
#include <cmath>

namespace preserve::test {
namespace {

constexpr int64_t kStepNs = 10'000'000;

Estimated around(double ratio) {
  return {ratio, ratio * 0.995, ratio * 1.005};
}

int64_t step_at(double speedup) {
  return std::llround(static_cast<double>(kStepNs) / speedup);
}

// Gains shrink with the batch and with the number of ranks, and turn into losses.
double speedup_of(const CellKey& key) {
  const double gain = key.batch == 1 ? 0.08 : key.batch == 8 ? 0.03 : -0.02;
  return 1 + gain * (key.ranks == 8 ? 0.5 : 1) + (key.context > 4096 ? 0.004 : 0);
}

GridCell cell_of(const CellKey& key) {
  GridCell cell = measured_cell(key, speedup_of(key));
  if (key.model == "llama3-70b" && key.dtype == "fp16") {
    const double overlap = key.batch == 64 ? 1.05 : 0.99;
    cell.arms.push_back({"overlap", step_at(overlap), around(overlap)});
    cell.fused = around(cell.speedup->estimate / overlap);
  }
  if (key.batch == 64 && key.context > 4096) {
    cell = GridCell{.key = key, .status = CellStatus::not_available};
    cell.reason = "needs 225.71 GiB per rank, h100-sxm has 74.51 GiB";
  }
  return cell;
}

}  // namespace

GridCell measured_cell(const CellKey& key, double speedup) {
  GridCell cell;
  cell.key = key;
  cell.status = CellStatus::done;
  cell.dur_ns = 6'000'000'000;
  cell.finished_at = "2026-01-31T12:00:00Z";
  cell.plan_verdict = kPrefetch;
  cell.collective = "stand-in";
  cell.strategy = "flow";
  cell.modelled_step_ns = kStepNs;
  cell.predicted_speedup = speedup + 0.01;
  cell.predicted_step_ns = step_at(cell.predicted_speedup);
  cell.all_hot_step_ns = kStepNs / 2;
  cell.window_limited_step_ns = step_at(speedup + 0.02);
  cell.cache_limited_step_ns = step_at(speedup + 0.03);
  cell.planned_bytes = 64 << 20;
  cell.issued_bytes = 60 << 20;
  cell.speedup = around(speedup);
  cell.verdict = judge_speedup(*cell.speedup->interval());
  cell.pairs = 40;
  cell.fidelity = 1.02;
  cell.predicted_saved_ns = 500'000;
  cell.realised_saved_ns = 460'000;
  cell.arms = {{"baseline", kStepNs, {}},
               {"prefetch", step_at(speedup), around(speedup)},
               {"null", kStepNs, around(1)},
               {"hot", kStepNs / 2, around(2)}};
  decide_choice(cell);
  return cell;
}

std::vector<GridCell> synthetic_cells() {
  std::vector<GridCell> cells;
  for (const char* model : {"llama3-8b", "llama3-70b"}) {
    for (const char* dtype : {"fp16", "int8"}) {
      for (const int64_t ranks : {4, 8}) {
        for (const int64_t batch : {1, 8, 64}) {
          for (const int64_t context : {4096, 16384}) {
            cells.push_back(cell_of({model, dtype, ranks, batch, context}));
            cells.back().id = static_cast<int64_t>(cells.size());
          }
        }
      }
    }
  }
  GridCell& failed = cells[cells.size() - 2];
  failed = GridCell{.id = failed.id, .key = failed.key, .status = CellStatus::failed};
  failed.reason = "preserve-replay: the replay needs 90 GiB of memory, 70 GiB are free";
  GridCell& pending = cells.back();
  pending = GridCell{.id = pending.id, .key = pending.key};
  return cells;
}

void write_synthetic_grid(const std::filesystem::path& path, const std::vector<GridCell>& cells,
                          const std::function<void(TraceDb&)>& tweak) {
  std::filesystem::remove(path);
  TraceDb db = TraceDb::create(path);
  const bool all = std::none_of(cells.begin(), cells.end(), [](const GridCell& cell) {
    return cell.status == CellStatus::pending;
  });
  for (const auto& [key, value] :
       {std::pair<const char*, const char*>{"kind", "grid"},
        {"incomplete", all ? "0" : "1"},
        {"device_name", "NVIDIA H100 80GB HBM3"},
        {"executor", "cuda"},
        {"grid_tool_version", "0.1.0"},
        {"grid_selection", "tp=4,8 batch=1,8,64 context=4096,16384 dtype=fp16,int8"},
        {"grid_device_file", "h100-sxm"},
        {"grid_device_file_source", "measured"},
        {"grid_device_file_sha256",
         "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"},
        {"grid_time_limit", "5.00 s"},
        {"grid_link_latency_ns", "0"},
        {"grid_closed_loop", "no"}}) {
    db.set_meta(key, value);
  }
  for (const GridCell& cell : cells) {
    insert_cell(db, cell);
    if (cell.status != CellStatus::pending) update_cell(db, cell);
  }
  if (tweak) tweak(db);
  db.finish();
}

}  // namespace preserve::test
