// SPDX-License-Identifier: Apache-2.0
#include "db/untrusted.h"

#include <sqlite3.h>

#include <initializer_list>

namespace preserve {

void distrust(sqlite3* handle) {
  for (const int option : {SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_ENABLE_VIEW,
                           SQLITE_DBCONFIG_ENABLE_TRIGGER}) {
    sqlite3_db_config(handle, option, 0, nullptr);
  }
  constexpr int kLongestValueBytes = 256 << 20;  // the largest text of ours is a device file
  constexpr int kDeepestExpression = 100;
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, kLongestValueBytes);
  sqlite3_limit(handle, SQLITE_LIMIT_EXPR_DEPTH, kDeepestExpression);
}

}  // namespace preserve
