// SPDX-License-Identifier: Apache-2.0
// The cells of an explore.db: decode steps of models on devices, as they are or changed, planned
// and judged without a run. Written by preserve-explore, read by it (to resume, to print) and by
// the report. A cell that has no row has not been reached. Columns: schema.sql.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

inline constexpr int64_t kMostExploreCells = 10'000'000;

struct ExploreCell {
  int64_t id = 0;  // place in the sweep from 1: the first axis outermost
  // What was asked, with the value in effect where nothing was.
  std::string model{}, device{}, dtype{};
  int64_t ranks = 1, batch = 1, context = 1;
  int64_t kv_heads = 0;  // of the model; 0: it has none
  int64_t cache_bytes = 0, memory_bytes = 0;
  double memory_bandwidth_bytes_per_s = 0, arithmetic_per_s = 0;
  std::optional<double> network_latency_ns{}, network_bandwidth_bytes_per_s{};

  std::string status{};  // kExploreDone, kExploreNotAvailable or kExploreFailed
  std::string reason{};  // of the latter two

  // Bytes of one rank, of the largest layer; 0 where the ranks do not divide the model.
  int64_t attention_weight_bytes = 0, kv_bytes = 0, mlp_bytes = 0;
  // What must fit the memory: weights and KV of all layers, and what a step needs beside.
  int64_t rank_bytes = 0, workspace_bytes = 0;
  int64_t activation_bytes = 0;  // of a step; a smaller cache would not hold them

  double allreduce_ns = 0;  // a layer's; 0 where there is none
  // Of a cell that is done: step times. Best plan of each strategy, also where it is not worth
  // doing.
  double baseline_step_ns = 0, bfs_step_ns = 0, flow_step_ns = 0, fused_step_ns = 0,
         all_hot_step_ns = 0;
  int64_t bfs_bytes = 0, flow_bytes = 0;  // fetched per step
  // By the constants file, where one was given: of one device.
  std::optional<double> area_mm2{}, cost{};

  bool done() const;
};

inline constexpr const char* kExploreDone = "done";
inline constexpr const char* kExploreNotAvailable = "not_available";  // cannot be run: N/A
inline constexpr const char* kExploreFailed = "failed";

// What meta says of an explore.db: kind = explore.
inline constexpr const char* kExploreKind = "explore";

// One axis of a sweep: a key of preserve-explore with its values in their order, in base units.
struct ExploreAxis {
  std::string key;
  std::vector<std::string> values;
};
// A product of axes, the first outermost; axes of one value included.
struct ExploreSheet {
  std::string title;
  std::vector<ExploreAxis> axes;
  int64_t first_id = 1, cells = 0;  // ids [first_id, first_id + cells)
};
// meta explore_sheets. input_error naming the file when it is damaged or of another kind.
std::vector<ExploreSheet> read_explore_sheets(const TraceDb& db);
std::string to_text(const std::vector<ExploreSheet>& sheets);

// Cells by id; one at a time, since there may be very many. input_error naming the file for values
// that no preserve tool writes.
void read_explore_cells(const TraceDb& db, const std::function<void(const ExploreCell&)>& take);

// The names of the columns and the values of a cell, in one order; a missing one is null.
const std::vector<std::string>& explore_columns();
std::vector<SqlValue> explore_values(const ExploreCell& cell);

// A row of a file that is being made or grows, from explore_values().
void insert_explore_cell(TraceDb& db, const std::vector<SqlValue>& values);

}  // namespace preserve
