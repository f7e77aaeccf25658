// SPDX-License-Identifier: Apache-2.0
// What preserve-replay says on standard output, read back from the replay.db it has just written:
// the file holds everything that the person is told.
#pragma once

#include <string>

#include "db/trace_db.h"

namespace preserve {

std::string summary_of(const TraceDb& replay);

}  // namespace preserve
