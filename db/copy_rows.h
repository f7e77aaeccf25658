// SPDX-License-Identifier: Apache-2.0
// A copy of a trace that something is added to, since no tool changes its input.
#pragma once

#include <filesystem>

#include "db/trace_db.h"

namespace preserve {

// All rows of the tables of the file `from`, but who finished it.
void copy_rows(TraceDb& db, const std::filesystem::path& from);

}  // namespace preserve
