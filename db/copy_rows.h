// SPDX-License-Identifier: Apache-2.0
// A copy of a trace that something is added to, since no tool changes its input.
#pragma once

#include <string>

#include "db/trace_db.h"

namespace preserve {

// All rows of the tables of the file that is attached as `from`, but who finished it.
void copy_rows(TraceDb& db, const std::string& from);

}  // namespace preserve
