// SPDX-License-Identifier: Apache-2.0
// What SQLite may do for a database that somebody else wrote. Such a file can hold views that
// compute for ever, triggers, and text of any length (https://www.sqlite.org/security.html).
#pragma once

struct sqlite3;

namespace preserve {

// Views and triggers of the file are off (temporary ones of ours are not), functions in its schema
// may have no side effects, lengths and depths are bounded. Call it before the first statement.
void distrust(sqlite3* handle);

}  // namespace preserve
