// SPDX-License-Identifier: Apache-2.0
// Where the cells go: an explore.db that grows and can be resumed, or a database in memory.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "db/explore/cells.h"
#include "db/sweep/file.h"
#include "db/trace_db.h"

namespace preserve {

class ExploreResults {
 public:
  // Empty `path`: in memory. Else opens the file, or makes it when it is missing or `anew` is set.
  // input_error when it is something else or of another identity: the message names what differs.
  ExploreResults(const std::filesystem::path& path, const SweepIdentity& identity, int64_t cells,
                 bool anew);

  const TraceDb& db() const { return db_; }
  int64_t finished() const { return finished_; }
  // Whether the cell has a row, by id.
  bool has(int64_t id) const { return there_.at(static_cast<size_t>(id - 1)); }
  // Rows from explore_values(), in one transaction.
  void record(const std::vector<std::vector<SqlValue>>& rows);

 private:
  bool in_memory_;
  TraceDb db_;
  int64_t cells_;
  std::vector<bool> there_;
  int64_t finished_ = 0;
};

}  // namespace preserve
