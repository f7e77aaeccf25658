// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/results.h"

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "explore_";

void describe(TraceDb& db, const SweepIdentity& identity) {
  db.set_meta("kind", kExploreKind);
  db.set_meta("incomplete", "1");
  for (const auto& [name, value] : identity) db.set_meta(kPrefix + name, value);
}

TraceDb open(const fs::path& path, const SweepIdentity& identity, bool anew) {
  if (path.empty()) {
    TraceDb db = TraceDb::create(":memory:");
    describe(db, identity);
    return db;
  }
  std::error_code error;
  if (anew || !fs::exists(path, error)) {
    OutputFile output(path, anew);
    TraceDb db = TraceDb::create(output.temporary_path());
    describe(db, identity);
    db.finish();
    output.commit();
  }
  return TraceDb::append(path);
}

void require_identity(const TraceDb& db, const SweepIdentity& identity) {
  if (db.meta("kind") != kExploreKind) {
    throw input_error(
        "{}: was not written by preserve-explore: name another output, or pass -f to replace it",
        db.file());
  }
  for (const auto& [name, value] : identity) {
    const std::string before = db.meta(kPrefix + name);
    if (before == value) continue;
    throw input_error(
        "{}: was begun with {} \"{}\", this command has \"{}\": give the same command to resume, "
        "name another output, or pass -f to begin anew",
        db.file(), name, printable(before), printable(value));
  }
}

}  // namespace

ExploreResults::ExploreResults(const fs::path& path, const SweepIdentity& identity, int64_t cells,
                               bool anew)
    : in_memory_(path.empty()), db_(open(path, identity, anew)), cells_(cells) {
  require_identity(db_, identity);
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
