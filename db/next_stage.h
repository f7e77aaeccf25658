// SPDX-License-Identifier: Apache-2.0
// What to do with a trace.db: the last line that a tool prints about one.
#pragma once

#include <string>

#include "db/trace_db.h"

namespace preserve {

// The command that makes the next file out of this one. `name`: what the file is called when
// everything is done; a file in the making has another name.
std::string next_command(const TraceDb& db, const std::string& name);

}  // namespace preserve
