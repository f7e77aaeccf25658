// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/nsys/foreign_db.h"

namespace preserve::import {

std::set<std::string> columns_of(const ForeignDb& db, const std::string& table) {
  Rows views(db, fmt::format("SELECT 1 FROM sqlite_master WHERE name = '{}' COLLATE NOCASE AND "
                             "(type <> 'table' OR sql LIKE 'CREATE VIRTUAL%')",
                             table));
  if (views.next()) {
    throw input_error("{}: {} is not a table: Nsight Systems did not write this file", db.file(),
                      table);
  }
  std::set<std::string> columns;
  Rows rows(db, fmt::format("PRAGMA table_info(\"{}\")", table));
  while (rows.next()) columns.emplace(rows.text(1));
  return columns;
}

std::string select_of(const std::set<std::string>& have, const std::string& table,
                      const std::vector<std::string>& want) {
  std::string list;
  for (const std::string& column : want) {
    if (!list.empty()) list += ", ";
    list += have.count(column) != 0 ? "\"" + column + "\"" : "NULL";
  }
  return fmt::format("SELECT {} FROM \"{}\"", list, table);
}

}  // namespace preserve::import
