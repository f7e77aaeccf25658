// SPDX-License-Identifier: Apache-2.0
// Ranks of imported processes: what is inside the files counts first, then their names, then the
// order of GPUs.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {

// Gives a rank to processes that have none. All but a number inside a file is a guess, and each
// guess comes back as a sentence.
std::vector<std::string> name_ranks(TraceDb& db, std::vector<ImportedProcess>& processes);

}  // namespace preserve::import
