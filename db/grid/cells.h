// SPDX-License-Identifier: Apache-2.0
// The cells of a grid.db: which decode steps are measured, and what came out. Written by
// preserve-replay --grid, read by it (to resume) and by the report. Columns: schema.sql.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/stats.h"
#include "db/estimated.h"
#include "db/trace_db.h"

namespace preserve {

enum class CellStatus { pending, done, not_available, failed };
const char* to_text(CellStatus status);

// What is measured. Compared and ordered as a whole.
struct CellKey {
  std::string model;
  std::string dtype;
  int64_t ranks = 1, batch = 1, context = 1;

  auto operator<=>(const CellKey&) const = default;
};
std::string name_of(const CellKey& key);  // "llama3-8b fp16 tp4 batch 8 context 16K"
std::string tokens_text(int64_t count);   // "16K" for 16384, "100" for 100

struct CellArm {
  std::string name;
  int64_t step_ns = 0;
  std::optional<Estimated> speedup{};  // over the baseline
};

inline constexpr const char* kPrefetch = "prefetch";
inline constexpr const char* kDoNothing = "do-nothing";

struct GridCell {
  int64_t id = 0;
  CellKey key{};
  CellStatus status = CellStatus::pending;
  std::string reason{};  // why not available or failed
  int64_t dur_ns = 0;
  std::string finished_at{};

  // Of status done alone.
  std::string collective{};  // as meta collective of the replay
  std::string plan_verdict{}, strategy{};
  int64_t modelled_step_ns = 0, predicted_step_ns = 0;
  double predicted_speedup = 1;
  int64_t all_hot_step_ns = 0, window_limited_step_ns = 0, cache_limited_step_ns = 0;
  int64_t planned_bytes = 0, issued_bytes = 0;
  std::optional<Estimated> speedup{};  // of the plan; nothing: no pair was counted
  Verdict verdict = Verdict::ambiguous;
  int64_t pairs = 0;
  bool busy = false;  // ranks lost their cores during most samples
  std::string choice{};
  double chosen_speedup = 1;
  std::optional<Estimated> fused{};  // step of arm overlap over step of arm prefetch
  std::optional<double> fidelity{};
  int64_t predicted_saved_ns = 0, realised_saved_ns = 0;
  std::vector<CellArm> arms{};

  bool plans_prefetch() const { return plan_verdict == kPrefetch; }
  // Enough pairs on a quiet machine: only then its numbers count as findings.
  bool sound() const {
    return status == CellStatus::done && !busy && speedup && speedup->low.has_value();
  }
};

// Prefetching is chosen when the plan's whole interval lies above 1, else nothing is done: below,
// astride, without an interval or from a busy machine, the measurement gives no reason to touch a
// program.
void decide_choice(GridCell& cell);

// Cells in the order of measuring. input_error naming the file for values that no grid holds.
std::vector<GridCell> read_cells(const TraceDb& db);

// A row of a file that is being made or grows.
void insert_cell(TraceDb& db, const GridCell& cell);
void update_cell(TraceDb& db, const GridCell& cell);  // by id, arms included

}  // namespace preserve
