// SPDX-License-Identifier: Apache-2.0
#include "tests/support/rows.h"

namespace preserve::test {
namespace {

// As many as the commas of its list tell.
int columns_of(const std::string& sql) {
  int columns = 1, depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < sql.size(); ++i) {
    if (depth == 0 && !quoted && sql.compare(i, 6, " FROM ") == 0) break;
    quoted ^= sql[i] == '\'';
    if (quoted) continue;
    depth += (sql[i] == '(') - (sql[i] == ')');
    columns += sql[i] == ',' && depth == 0;
  }
  return columns;
}

}  // namespace

std::vector<std::string> rows(const TraceDb& db, const std::string& sql) {
  std::vector<std::string> found;
  const int columns = columns_of(sql);
  Query query = db.query(sql);
  while (query.next()) {
    std::string& row = found.emplace_back();
    for (int i = 0; i < columns; ++i) {
      if (i > 0) row += ' ';
      row += query.is_null(i) ? "-" : query.text(i);
    }
  }
  return found;
}

}  // namespace preserve::test
