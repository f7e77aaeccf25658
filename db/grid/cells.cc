// SPDX-License-Identifier: Apache-2.0
#include "db/grid/cells.h"

#include <map>
#include <set>

#include "common/enum_words.h"
#include "common/error.h"
#include "db/columns.h"

namespace preserve {
namespace {

constexpr std::array kStatuses{"pending", "done", "not_available", "failed"};
constexpr int64_t kMostCells = 100'000;
constexpr int64_t kMostCount = int64_t{1} << 40;  // of ranks, sequences, tokens
constexpr size_t kMostArms = 64;

using KeyColumn = Column<CellKey>;
constexpr std::array kKeyColumns{
    KeyColumn{"model", &CellKey::model},        KeyColumn{"dtype", &CellKey::dtype},
    KeyColumn{"ranks", &CellKey::ranks, 1},     KeyColumn{"batch", &CellKey::batch, 1},
    KeyColumn{"context", &CellKey::context, 1},
};

using CellColumn = Column<GridCell>;
// Of every cell that is decided.
constexpr std::array kEndColumns{
    CellColumn{"reason", &GridCell::reason},
    CellColumn{"dur_ns", &GridCell::dur_ns},
    CellColumn{"finished_at", &GridCell::finished_at},
};
// Of a cell that was measured.
constexpr std::array kResultColumns{
    CellColumn{"collective", &GridCell::collective},
    CellColumn{"plan_verdict", &GridCell::plan_verdict},
    CellColumn{"strategy", &GridCell::strategy},
    CellColumn{"modelled_step_ns", &GridCell::modelled_step_ns, 1},
    CellColumn{"predicted_step_ns", &GridCell::predicted_step_ns, 1},
    CellColumn{"predicted_speedup", &GridCell::predicted_speedup, kPositive},
    CellColumn{"all_hot_step_ns", &GridCell::all_hot_step_ns},
    CellColumn{"window_limited_step_ns", &GridCell::window_limited_step_ns},
    CellColumn{"cache_limited_step_ns", &GridCell::cache_limited_step_ns},
    CellColumn{"planned_bytes", &GridCell::planned_bytes},
    CellColumn{"issued_bytes", &GridCell::issued_bytes},
    CellColumn{"speedup", &GridCell::speedup},
    CellColumn{"verdict", &GridCell::verdict},
    CellColumn{"pairs", &GridCell::pairs},
    CellColumn{"busy", &GridCell::busy},
    CellColumn{"choice", &GridCell::choice},
    CellColumn{"chosen_speedup", &GridCell::chosen_speedup, kPositive},
    CellColumn{"fused_ratio", &GridCell::fused},
    CellColumn{"fidelity", &GridCell::fidelity, kPositive},
    CellColumn{"predicted_saved_ns", &GridCell::predicted_saved_ns},
    CellColumn{"realised_saved_ns", &GridCell::realised_saved_ns, kAnyValue},
};

using ArmColumn = Column<CellArm>;
constexpr std::array kArmColumns{
    ArmColumn{"arm", &CellArm::name},
    ArmColumn{"step_ns", &CellArm::step_ns, 1},
    ArmColumn{"speedup", &CellArm::speedup},
};

[[noreturn]] void refuse(const TraceDb& db, const std::string& what) {
  throw input_error("{}: is damaged: a cell with {}", db.file(), what);
}

CellStatus status_of(const TraceDb& db, std::string_view text) {
  if (const auto status = find_word<CellStatus>(kStatuses, text)) return *status;
  refuse(db, fmt::format("status '{}'", text));
}

void check_key(const TraceDb& db, const CellKey& key) {
  for (const int64_t count : {key.ranks, key.batch, key.context}) {
    if (count > kMostCount) refuse(db, fmt::format("{} ranks, sequences or tokens", count));
  }
}

void check_result(const TraceDb& db, const GridCell& cell) {
  for (const std::string* word : {&cell.plan_verdict, &cell.choice}) {
    if (*word != kPrefetch && *word != kDoNothing) {
      refuse(db, fmt::format("plan or choice '{}'", *word));
    }
  }
  GridCell decided = cell;
  decide_choice(decided);
  if (decided.choice != cell.choice || decided.chosen_speedup != cell.chosen_speedup) {
    refuse(db, fmt::format("choice '{}', which its speed-up does not give", cell.choice));
  }
}

void read_arms(const TraceDb& db, std::vector<GridCell>& cells) {
  std::map<int64_t, GridCell*> by_id;
  for (GridCell& cell : cells) by_id[cell.id] = &cell;
  Query query = db.query(fmt::format("SELECT cell_id, {} FROM cell_arm ORDER BY cell_id, arm",
                                     column_list(kArmColumns)));
  while (query.next()) {
    const auto owner = by_id.find(query.integer(0));
    if (owner == by_id.end() || owner->second->status != CellStatus::done) {
      refuse(db, "an arm but no result");
    }
    if (owner->second->arms.size() == kMostArms) refuse(db, "too many arms");
    read_columns(query, 1, kArmColumns, owner->second->arms.emplace_back());
  }
}

}  // namespace

const char* to_text(CellStatus status) {
  return word_of(kStatuses, status);
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

void decide_choice(GridCell& cell) {
  const bool wins = cell.plans_prefetch() && !cell.busy && cell.speedup && cell.speedup->low &&
                    *cell.speedup->low > 1;
  cell.choice = wins ? kPrefetch : kDoNothing;
  cell.chosen_speedup = wins ? cell.speedup->estimate : 1;
}

std::vector<GridCell> read_cells(const TraceDb& db) {
  std::vector<GridCell> cells;
  std::set<CellKey> seen;
  Query query = db.query(fmt::format("SELECT id, status, {}, {}, {} FROM cell ORDER BY id",
                                     column_list(kKeyColumns), column_list(kEndColumns),
                                     column_list(kResultColumns)));
  constexpr int kKeyAt = 2, kEndAt = kKeyAt + static_cast<int>(kKeyColumns.size()),
                kResultAt = kEndAt + static_cast<int>(kEndColumns.size());
  while (query.next()) {
    GridCell cell;
    cell.id = query.integer(0);
    cell.status = status_of(db, query.text(1));
    read_columns(query, kKeyAt, kKeyColumns, cell.key);
    check_key(db, cell.key);
    if (!seen.insert(cell.key).second) refuse(db, "the name of another: " + name_of(cell.key));
    if (cell.status != CellStatus::pending) read_columns(query, kEndAt, kEndColumns, cell);
    if (cell.status == CellStatus::done) {
      read_columns(query, kResultAt, kResultColumns, cell);
      check_result(db, cell);
    }
    cells.push_back(std::move(cell));
    if (cells.size() > kMostCells) refuse(db, fmt::format("a number above {}", kMostCells));
  }
  read_arms(db, cells);
  return cells;
}

void insert_cell(TraceDb& db, const GridCell& cell) {
  insert_row(db, "cell", kKeyColumns, cell.key,
             {{"id", cell.id}, {"status", std::string(to_text(cell.status))}});
}

void update_cell(TraceDb& db, const GridCell& cell) {
  const bool done = cell.status == CellStatus::done;
  std::vector<SqlValue> values{std::string(to_text(cell.status))};
  std::string set = "status = ?, " + column_list(kEndColumns, " = ?");
  append_values(kEndColumns, cell, values);
  if (done) {
    set += ", " + column_list(kResultColumns, " = ?");
    append_values(kResultColumns, cell, values);
  }
  values.emplace_back(cell.id);
  db.execute(fmt::format("UPDATE cell SET {} WHERE id = ?", set), values);
  db.execute("DELETE FROM cell_arm WHERE cell_id = ?", {cell.id});
  if (!done) return;
  for (const CellArm& arm : cell.arms) {
    insert_row(db, "cell_arm", kArmColumns, arm, {{"cell_id", cell.id}});
  }
}

}  // namespace preserve
