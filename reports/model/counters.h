// SPDX-License-Identifier: Apache-2.0
// What a recording of hardware counters says of each operator: bytes per kernel, and next to them
// the bytes that the recording knows by name.
#pragma once

#include <vector>

#include "db/trace_db.h"
#include "reports/model/report.h"

namespace preserve::report {

// Operators of one name in ranges of one name, layer numbers apart; most bytes first. Empty when
// nothing was counted.
std::vector<CounterTotal> summarise_counters(const TraceDb& db);

}  // namespace preserve::report
