// SPDX-License-Identifier: Apache-2.0
// The hosts and devices of a trace.db or replay.db.
#pragma once

#include <vector>

#include "db/trace_db.h"
#include "reports/model/report.h"

namespace preserve::report {

std::vector<Machine> read_machines(const TraceDb& db);

}  // namespace preserve::report
