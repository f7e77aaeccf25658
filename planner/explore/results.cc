// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/results.h"

#include "common/error.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr SweepKind kKind{kExploreKind, "was not written by preserve-explore"};

}  // namespace

ExploreResults::ExploreResults(const fs::path& path, const SweepIdentity& identity, int64_t cells,
                               bool anew)
    : in_memory_(path.empty()), db_(open_sweep(path, kKind, identity, anew)), cells_(cells) {
  there_.assign(static_cast<size_t>(cells), false);
  Query query = db_.query("SELECT id FROM explore_cell");
  while (query.next()) {
    const int64_t id = query.integer(0);
    if (id < 1 || id > cells) {
      throw input_error("{}: is damaged: it has a cell {} of {}", db_.file(), id, cells);
    }
    there_[static_cast<size_t>(id - 1)] = true;
    ++finished_;
  }
}

void ExploreResults::record(const std::vector<std::vector<SqlValue>>& rows) {
  if (rows.empty()) return;
  const auto insert = [&] {
    for (const std::vector<SqlValue>& row : rows) insert_explore_cell(db_, row);
    if (finished_ + static_cast<int64_t>(rows.size()) == cells_) db_.set_meta("incomplete", "0");
  };
  if (in_memory_) {
    insert();
  } else {
    db_.transaction(insert);
  }
  for (const std::vector<SqlValue>& row : rows) {
    there_[static_cast<size_t>(std::get<int64_t>(row.front()) - 1)] = true;
  }
  finished_ += static_cast<int64_t>(rows.size());
}

}  // namespace preserve
