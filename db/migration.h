// SPDX-License-Identifier: Apache-2.0
// Old trace.db files stay readable: a copy in memory is brought up to the present schema, one
// version at a time; the file itself is never touched. What a version adds stands in a schema_N.sql
// of its own, which new files get too; it raises kTraceSchemaVersion and is one entry here.
#pragma once

#include <span>
#include <string>

struct sqlite3;

namespace preserve {

struct Migration {
  int64_t from_version;  // turns this version into the next
  const char* sql;
};

// One entry per past version, ascending.
std::span<const Migration> trace_migrations();

// Copies `old` (which is closed) into memory and applies every step from `version` on. The result's
// views are those of the present version. input_error naming `file` when a step is missing or
// fails.
sqlite3* migrated_copy(sqlite3* old, int64_t version, std::span<const Migration> migrations,
                       const std::string& file);

}  // namespace preserve
