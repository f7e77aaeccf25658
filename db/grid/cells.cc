// SPDX-License-Identifier: Apache-2.0
#include "db/grid/cells.h"

#include <array>
#include <map>
#include <set>

#include "common/error.h"

namespace preserve {
namespace {

constexpr std::array kStatuses{"pending", "done", "not_available", "failed"};
constexpr int64_t kMostCells = 100'000;
constexpr int64_t kMostCount = int64_t{1} << 40;  // of ranks, sequences, tokens
constexpr double kLargestRatio = 1e6;
constexpr size_t kMostArms = 64;

// The values of one row, refused where they mean nothing.
class CellRow {
 public:
  CellRow(const Query& row, const TraceDb& db) : row_(row), db_(db) {}

  std::string text(int column) const { return std::string(row_.text(column)); }
  int64_t count(int column, int64_t least, int64_t most, const char* what) const {
    const int64_t value = row_.integer(column);
    if (value < least || value > most) refuse(what, fmt::format("{}", value));
    return value;
  }
  // NULL is 0.
  int64_t amount(int column, const char* what) const { return count(column, 0, INT64_MAX, what); }
  std::optional<double> ratio(int column, const char* what) const {
    if (row_.is_null(column)) return std::nullopt;
    const double value = row_.real(column);
    if (!(value > 0 && value < kLargestRatio)) refuse(what, fmt::format("{}", value));
    return value;
  }
  // Estimate, low and high in three columns that follow each other.
  std::optional<MeasuredRatio> measured(int column, const char* what) const {
    const auto estimate = ratio(column, what);
    if (!estimate) return std::nullopt;
    const MeasuredRatio value{*estimate, ratio(column + 1, what), ratio(column + 2, what)};
    const bool half = value.low.has_value() != value.high.has_value();
    if (half || (value.low && *value.low > *value.high)) {
      refuse(what, "half an interval");
    }
    return value;
  }
  CellStatus status(int column) const {
    for (size_t i = 0; i < kStatuses.size(); ++i) {
      if (row_.text(column) == kStatuses[i]) return static_cast<CellStatus>(i);
    }
    refuse("status", text(column));
  }
  std::string one_of(int column, std::initializer_list<const char*> words, const char* what) const {
    for (const char* word : words) {
      if (row_.text(column) == word) return word;
    }
    refuse(what, text(column));
  }
  [[noreturn]] void refuse(const char* what, const std::string& value) const {
    throw input_error("{}: is damaged: a cell with {} '{}'", db_.file(), what, value);
  }

 private:
  const Query& row_;
  const TraceDb& db_;
};

// In the order of schema_2.sql.
constexpr const char* kSelectCells =
    "SELECT id, model, ranks, batch, context, dtype, status, reason, plan_verdict, strategy,"
    " modelled_step_ns, predicted_step_ns, predicted_speedup, all_hot_step_ns,"
    " window_limited_step_ns, cache_limited_step_ns, planned_bytes, issued_bytes,"
    " speedup, speedup_low, speedup_high, verdict, pairs, busy, choice, chosen_speedup,"
    " fused_ratio, fused_ratio_low, fused_ratio_high, fidelity, predicted_saved_ns,"
    " realised_saved_ns, dur_ns, finished_at, collective FROM cell ORDER BY id";

void read_outcome(const CellRow& row, const Query& query, GridCell& cell) {
  cell.plan_verdict = row.one_of(8, {kPrefetch, kDoNothing}, "plan");
  cell.strategy = row.text(9);
  cell.collective = row.text(34);
  cell.modelled_step_ns = row.count(10, 1, INT64_MAX, "modelled step");
  cell.predicted_step_ns = row.count(11, 1, INT64_MAX, "predicted step");
  cell.predicted_speedup = row.ratio(12, "predicted speed-up").value_or(1);
  cell.all_hot_step_ns = row.amount(13, "bound");
  cell.window_limited_step_ns = row.amount(14, "bound");
  cell.cache_limited_step_ns = row.amount(15, "bound");
  cell.planned_bytes = row.amount(16, "planned bytes");
  cell.issued_bytes = row.amount(17, "issued bytes");
  cell.speedup = row.measured(18, "speed-up");
  cell.verdict = row.one_of(21, {"FAST", "SAME", "SLOW", "AMBG"}, "verdict");
  cell.pairs = row.amount(22, "pairs");
  cell.busy = row.count(23, 0, 1, "busy") == 1;
  cell.choice = row.one_of(24, {kPrefetch, kDoNothing}, "choice");
  cell.chosen_speedup = row.ratio(25, "chosen speed-up").value_or(1);
  cell.fused = row.measured(26, "ratio to overlap");
  cell.fidelity = row.ratio(29, "fidelity");
  cell.predicted_saved_ns = row.amount(30, "predicted saving");
  cell.realised_saved_ns = query.integer(31);  // negative when prefetching lost time
  GridCell decided = cell;
  choose(decided);
  if (decided.choice != cell.choice || decided.chosen_speedup != cell.chosen_speedup) {
    row.refuse("a choice that its speed-up does not give", cell.choice);
  }
}

void read_arms(const TraceDb& db, std::vector<GridCell>& cells) {
  std::map<int64_t, GridCell*> by_id;
  for (GridCell& cell : cells) by_id[cell.id] = &cell;
  Query query = db.query(
      "SELECT cell_id, arm, step_ns, speedup, speedup_low, speedup_high FROM cell_arm "
      "ORDER BY cell_id, arm");
  while (query.next()) {
    const CellRow row(query, db);
    const auto owner = by_id.find(query.integer(0));
    if (owner == by_id.end() || owner->second->status != CellStatus::done) {
      row.refuse("an arm that no measured cell has", row.text(1));
    }
    CellArm arm{row.text(1), row.count(2, 1, INT64_MAX, "step of an arm"),
                row.measured(3, "speed-up of an arm")};
    if (owner->second->arms.size() == kMostArms) row.refuse("too many arms", arm.name);
    owner->second->arms.push_back(std::move(arm));
  }
}

SqlValue or_null(const std::string& text) {
  return text.empty() ? SqlValue(nullptr) : SqlValue(text);
}
SqlValue or_null(const std::optional<double>& value) {
  return value ? SqlValue(*value) : SqlValue(nullptr);
}
SqlValue estimate_of(const std::optional<MeasuredRatio>& ratio) {
  return ratio ? SqlValue(ratio->estimate) : SqlValue(nullptr);
}
SqlValue low_of(const std::optional<MeasuredRatio>& ratio) {
  return ratio ? or_null(ratio->low) : SqlValue(nullptr);
}
SqlValue high_of(const std::optional<MeasuredRatio>& ratio) {
  return ratio ? or_null(ratio->high) : SqlValue(nullptr);
}

}  // namespace

const char* to_text(CellStatus status) {
  return kStatuses[static_cast<size_t>(status)];
}

std::string tokens_text(int64_t count) {
  constexpr int64_t kThousand = 1024;
  return count >= kThousand && count % kThousand == 0 ? fmt::format("{}K", count / kThousand)
                                                      : fmt::format("{}", count);
}

std::string name_of(const CellKey& key) {
  return fmt::format("{} {} tp{} batch {} context {}", key.model, key.dtype, key.ranks, key.batch,
                     tokens_text(key.context));
}

void choose(GridCell& cell) {
  const bool wins = cell.plans_prefetch() && !cell.busy && cell.speedup && cell.speedup->low &&
                    *cell.speedup->low > 1;
  cell.choice = wins ? kPrefetch : kDoNothing;
  cell.chosen_speedup = wins ? cell.speedup->estimate : 1;
}

std::vector<GridCell> read_cells(const TraceDb& db) {
  std::vector<GridCell> cells;
  std::set<CellKey> seen;
  Query query = db.query(kSelectCells);
  while (query.next()) {
    const CellRow row(query, db);
    GridCell cell;
    cell.id = query.integer(0);
    cell.key.model = row.text(1);
    cell.key.ranks = row.count(2, 1, kMostCount, "ranks");
    cell.key.batch = row.count(3, 1, kMostCount, "batch");
    cell.key.context = row.count(4, 1, kMostCount, "context");
    cell.key.dtype = row.text(5);
    cell.status = row.status(6);
    cell.reason = row.text(7);
    cell.dur_ns = row.amount(32, "duration");
    cell.finished_at = row.text(33);
    if (!seen.insert(cell.key).second) row.refuse("a name that another has", name_of(cell.key));
    if (cell.status == CellStatus::done) read_outcome(row, query, cell);
    cells.push_back(std::move(cell));
    if (cells.size() > kMostCells) row.refuse("a number above", fmt::format("{}", kMostCells));
  }
  read_arms(db, cells);
  return cells;
}

void insert_cell(TraceDb& db, const GridCell& cell) {
  db.execute(
      "INSERT INTO cell (id, model, ranks, batch, context, dtype, status) VALUES (?,?,?,?,?,?,?)",
      {cell.id, cell.key.model, cell.key.ranks, cell.key.batch, cell.key.context, cell.key.dtype,
       std::string(to_text(cell.status))});
}

void update_cell(TraceDb& db, const GridCell& cell) {
  db.execute("UPDATE cell SET status = ?, reason = ?, dur_ns = ?, finished_at = ? WHERE id = ?",
             {std::string(to_text(cell.status)), or_null(cell.reason), cell.dur_ns,
              or_null(cell.finished_at), cell.id});
  db.execute("DELETE FROM cell_arm WHERE cell_id = ?", {cell.id});
  if (cell.status != CellStatus::done) return;
  db.execute(
      "UPDATE cell SET collective = ?, plan_verdict = ?, strategy = ?, modelled_step_ns = ?, "
      "predicted_step_ns = ?,"
      " predicted_speedup = ?, all_hot_step_ns = ?, window_limited_step_ns = ?,"
      " cache_limited_step_ns = ?, planned_bytes = ?, issued_bytes = ?, speedup = ?,"
      " speedup_low = ?, speedup_high = ?, verdict = ?, pairs = ?, busy = ?, choice = ?, "
      "chosen_speedup = ?,"
      " fused_ratio = ?, fused_ratio_low = ?, fused_ratio_high = ?, fidelity = ?,"
      " predicted_saved_ns = ?, realised_saved_ns = ? WHERE id = ?",
      {or_null(cell.collective),
       cell.plan_verdict,
       or_null(cell.strategy),
       cell.modelled_step_ns,
       cell.predicted_step_ns,
       cell.predicted_speedup,
       cell.all_hot_step_ns,
       cell.window_limited_step_ns,
       cell.cache_limited_step_ns,
       cell.planned_bytes,
       cell.issued_bytes,
       estimate_of(cell.speedup),
       low_of(cell.speedup),
       high_of(cell.speedup),
       cell.verdict,
       cell.pairs,
       int64_t{cell.busy},
       cell.choice,
       cell.chosen_speedup,
       estimate_of(cell.fused),
       low_of(cell.fused),
       high_of(cell.fused),
       or_null(cell.fidelity),
       cell.predicted_saved_ns,
       cell.realised_saved_ns,
       cell.id});
  for (const CellArm& arm : cell.arms) {
    db.execute("INSERT INTO cell_arm VALUES (?,?,?,?,?,?)",
               {cell.id, arm.name, arm.step_ns, estimate_of(arm.speedup), low_of(arm.speedup),
                high_of(arm.speedup)});
  }
}

}  // namespace preserve
