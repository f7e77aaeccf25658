// SPDX-License-Identifier: Apache-2.0
// What a trace.db answers, as text.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve::test {

// The rows of a SELECT, the values of each with a space between; "-" where there is none.
std::vector<std::string> rows(const TraceDb& db, const std::string& sql);

}  // namespace preserve::test
