// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/results.h"

#include <nlohmann/json.hpp>
#include <variant>

#include "common/error.h"

namespace preserve {
namespace {

using Json = nlohmann::json;

constexpr SweepKind kKind{kExploreKind, "was not written by preserve-explore"};

SqlValue value_of(const Json& value) {
  if (value.is_null()) return nullptr;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  return value.get<std::string>();
}

}  // namespace

ExploreResults::ExploreResults(const std::filesystem::path& path, const SweepIdentity& identity,
                               int64_t cells, bool anew)
    : in_memory_(path.empty()), db_(open_sweep(path, kKind, identity, anew)), cells_(cells) {
  finished_ = db_.query_integer("SELECT count(*) FROM explore_cell").value_or(0);
  const int64_t foreign =
      db_.query_integer("SELECT count(*) FROM explore_cell WHERE id NOT BETWEEN 1 AND ?", {cells})
          .value_or(0);
  if (foreign > 0) {
    throw input_error("{}: is damaged: {} of its cells are not among the {} of the sweep",
                      db_.file(), foreign, cells);
  }
}

std::vector<CellRange> ExploreResults::missing() const {
  std::vector<CellRange> ranges;
  int64_t next = 1;
  Query query = db_.query("SELECT id FROM explore_cell ORDER BY id");
  while (query.next()) {
    const int64_t id = query.integer(0);
    if (id > next) ranges.push_back({next, id - 1});
    next = id + 1;
  }
  if (next <= cells_) ranges.push_back({next, cells_});
  return ranges;
}

void ExploreResults::record(const ExploreRow& row) {
  const auto insert = [&] {
    insert_explore_cell(db_, row);
    if (finished_ + 1 == cells_) db_.set_meta("incomplete", "0");
  };
  if (in_memory_) {
    insert();
  } else {
    db_.transaction(insert);
  }
  ++finished_;
}

std::string rows_to_text(const std::vector<ExploreRow>& rows) {
  Json list = Json::array();
  for (const ExploreRow& row : rows) {
    Json& values = list.emplace_back(Json::array());
    for (const SqlValue& value : row) {
      std::visit([&](const auto& v) { values.push_back(v); }, value);
    }
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<ExploreRow> rows_from_text(const std::string& text) {
  std::vector<ExploreRow> rows;
  for (const Json& values : Json::parse(text)) {
    ExploreRow& row = rows.emplace_back();
    for (const Json& value : values) row.push_back(value_of(value));
  }
  return rows;
}

}  // namespace preserve
