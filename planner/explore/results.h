// SPDX-License-Identifier: Apache-2.0
// Where the cells go: an explore.db that grows and can be resumed, or a database in memory.
#pragma once

#include <filesystem>
#include <vector>

#include "db/explore/cells.h"
#include "db/sweep/file.h"
#include "db/trace_db.h"
#include "replay/ranks/cells.h"

namespace preserve {

using ExploreRow = std::vector<SqlValue>;  // from explore_values()

class ExploreResults {
 public:
  // Empty `path`: in memory. Else opens the file, or makes it when it is missing or `anew` is set.
  // input_error when it is something else or of another identity: the message names what differs.
  ExploreResults(const std::filesystem::path& path, const SweepIdentity& identity, int64_t cells,
                 bool anew);

  const TraceDb& db() const { return db_; }
  int64_t finished() const { return finished_; }
  std::vector<CellRange> missing() const;  // cells without a row
  // In a transaction of its own.
  void record(const ExploreRow& row);

 private:
  bool in_memory_;
  TraceDb db_;
  int64_t cells_;
  int64_t finished_ = 0;
};

// How rows travel between ranks.
std::string rows_to_text(const std::vector<ExploreRow>& rows);
std::vector<ExploreRow> rows_from_text(const std::string& text);

}  // namespace preserve
