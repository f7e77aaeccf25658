// SPDX-License-Identifier: Apache-2.0
#include "db/copy_rows.h"

#include <fmt/format.h>

#include <vector>

namespace preserve {

void copy_rows(TraceDb& db, const std::filesystem::path& from) {
  db.attach(from, "part");
  std::vector<std::string> tables;
  {
    Query rows = db.query(
        "SELECT name FROM part.sqlite_master WHERE type = 'table' AND name IN (SELECT name FROM "
        "main.sqlite_master WHERE type = 'table') AND name NOT LIKE 'sqlite_%'");
    while (rows.next()) tables.emplace_back(rows.text(0));
  }
  for (const std::string& table : tables) {
    const bool is_meta = table == "meta";
    db.execute(fmt::format("INSERT OR REPLACE INTO main.{0} SELECT * FROM part.{0}{1}", table,
                           is_meta ? " WHERE key NOT IN ('finished', 'tool_version')" : ""));
  }
  db.detach("part");
}

}  // namespace preserve
