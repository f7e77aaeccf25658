// SPDX-License-Identifier: Apache-2.0
#include "db/explore/cells.h"

#include <fmt/ranges.h>

#include "common/error.h"
#include "common/split.h"
#include "common/units.h"
#include "db/columns.h"

namespace preserve {
namespace {

using CellColumn = Column<ExploreCell>;
constexpr std::array kColumns{
    CellColumn{"id", &ExploreCell::id, 1},
    CellColumn{"model", &ExploreCell::model},
    CellColumn{"device", &ExploreCell::device},
    CellColumn{"dtype", &ExploreCell::dtype},
    CellColumn{"ranks", &ExploreCell::ranks, 1},
    CellColumn{"batch", &ExploreCell::batch, 1},
    CellColumn{"context", &ExploreCell::context, 1},
    CellColumn{"kv_heads", &ExploreCell::kv_heads},
    CellColumn{"cache_bytes", &ExploreCell::cache_bytes},
    CellColumn{"memory_bytes", &ExploreCell::memory_bytes},
    CellColumn{"memory_bandwidth_bytes_per_s", &ExploreCell::memory_bandwidth_bytes_per_s},
    CellColumn{"arithmetic_per_s", &ExploreCell::arithmetic_per_s},
    CellColumn{"network_latency_ns", &ExploreCell::network_latency_ns},
    CellColumn{"network_bandwidth_bytes_per_s", &ExploreCell::network_bandwidth_bytes_per_s,
               kPositive},
    CellColumn{"status", &ExploreCell::status},
    CellColumn{"reason", &ExploreCell::reason},
    CellColumn{"attention_weight_bytes", &ExploreCell::attention_weight_bytes},
    CellColumn{"kv_bytes", &ExploreCell::kv_bytes},
    CellColumn{"mlp_bytes", &ExploreCell::mlp_bytes},
    CellColumn{"rank_bytes", &ExploreCell::rank_bytes},
    CellColumn{"workspace_bytes", &ExploreCell::workspace_bytes},
    CellColumn{"activation_bytes", &ExploreCell::activation_bytes},
    CellColumn{"allreduce_ns", &ExploreCell::allreduce_ns},
    CellColumn{"baseline_step_ns", &ExploreCell::baseline_step_ns},
    CellColumn{"bfs_step_ns", &ExploreCell::bfs_step_ns},
    CellColumn{"flow_step_ns", &ExploreCell::flow_step_ns},
    CellColumn{"fused_step_ns", &ExploreCell::fused_step_ns},
    CellColumn{"all_hot_step_ns", &ExploreCell::all_hot_step_ns},
    CellColumn{"bfs_bytes", &ExploreCell::bfs_bytes},
    CellColumn{"flow_bytes", &ExploreCell::flow_bytes},
    CellColumn{"area_mm2", &ExploreCell::area_mm2, kPositive},
    CellColumn{"cost", &ExploreCell::cost, kPositive},
};

constexpr size_t kMostAxes = 64, kMostSheets = 256;

[[noreturn]] void refuse(const TraceDb& db, const std::string& what) {
  throw input_error("{}: is damaged: {}", db.file(), what);
}

void check(const TraceDb& db, const ExploreCell& cell) {
  if (cell.status != kExploreDone && cell.status != kExploreNotAvailable &&
      cell.status != kExploreFailed) {
    refuse(db, fmt::format("a cell with status '{}'", cell.status));
  }
  if (!cell.done()) return;
  for (const double step_ns : {cell.baseline_step_ns, cell.bfs_step_ns, cell.flow_step_ns,
                               cell.fused_step_ns, cell.all_hot_step_ns}) {
    if (step_ns <= 0) refuse(db, fmt::format("cell {} with a step of {} ns", cell.id, step_ns));
  }
}

}  // namespace

bool ExploreCell::done() const {
  return status == kExploreDone;
}

// "title:l2=8388608,16777216;batch=1,4|title:...": no title or value holds one of these separators.
std::string to_text(const std::vector<ExploreSheet>& sheets) {
  std::string text;
  for (const ExploreSheet& sheet : sheets) {
    text += (text.empty() ? "" : "|") + sheet.title + ":";
    for (size_t i = 0; i < sheet.axes.size(); ++i) {
      text += fmt::format("{}{}={}", i == 0 ? "" : ";", sheet.axes[i].key,
                          fmt::join(sheet.axes[i].values, ","));
    }
  }
  return text;
}

std::vector<ExploreSheet> read_explore_sheets(const TraceDb& db) {
  if (db.meta("kind") != kExploreKind) {
    throw input_error("{}: was not written by preserve-explore", db.file());
  }
  const std::string text = db.meta("explore_sheets");
  std::vector<ExploreSheet> sheets;
  int64_t next_id = 1;
  for (const std::string_view part : split(text, '|')) {
    const size_t colon = part.find(':');
    if (colon == std::string_view::npos || sheets.size() == kMostSheets) refuse(db, "its sheets");
    ExploreSheet& sheet = sheets.emplace_back();
    sheet.title = part.substr(0, colon);
    sheet.first_id = next_id;
    sheet.cells = 1;
    for (const std::string_view word : split(part.substr(colon + 1), ';')) {
      const size_t equals = word.find('=');
      if (equals == std::string_view::npos || sheet.axes.size() == kMostAxes) {
        refuse(db, "its axes");
      }
      ExploreAxis& axis = sheet.axes.emplace_back();
      axis.key = word.substr(0, equals);
      for (const std::string_view value : split(word.substr(equals + 1), ',')) {
        axis.values.emplace_back(value);
      }
      sheet.cells = checked_mul(sheet.cells, static_cast<int64_t>(axis.values.size()), "the cells");
      if (sheet.cells > kMostExploreCells) refuse(db, "too many cells");
    }
    next_id += sheet.cells;
  }
  return sheets;
}

void read_explore_cells(const TraceDb& db, const std::function<void(const ExploreCell&)>& take) {
  Query query =
      db.query(fmt::format("SELECT {} FROM explore_cell ORDER BY id", column_list(kColumns)));
  while (query.next()) {
    ExploreCell cell;
    read_columns(query, 0, kColumns, cell);
    check(db, cell);
    take(cell);
  }
}

const std::vector<std::string>& explore_columns() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    list.reserve(std::size(kColumns));
    for (const CellColumn& column : kColumns) list.emplace_back(column.name);
    return list;
  }();
  return names;
}

std::vector<SqlValue> explore_values(const ExploreCell& cell) {
  std::vector<SqlValue> values;
  append_values(kColumns, cell, values);
  return values;
}

void insert_explore_cell(TraceDb& db, const std::vector<SqlValue>& values) {
  static const std::string sql =
      fmt::format("INSERT INTO explore_cell ({}) VALUES ({})", column_list(kColumns),
                  question_marks(kColumns.size()));
  db.execute(sql, values);
}

}  // namespace preserve
