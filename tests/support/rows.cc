// SPDX-License-Identifier: Apache-2.0
#include "tests/support/rows.h"

namespace preserve::test {

std::vector<std::string> rows(const TraceDb& db, const std::string& sql) {
  std::vector<std::string> found;
  Query query = db.query(sql);
  while (query.next()) {
    std::string& row = found.emplace_back();
    for (int i = 0; i < query.columns(); ++i) {
      if (i > 0) row += ' ';
      row += query.is_null(i) ? "-" : query.text(i);
    }
  }
  return found;
}

}  // namespace preserve::test
