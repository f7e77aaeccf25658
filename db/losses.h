// SPDX-License-Identifier: Apache-2.0
// What a recording lacks, in sentences: every tool prints them before anything else.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

// One sentence per rank, source and kind of loss that is not zero, and one when the recording ended
// cut off. Empty for a perfect recording.
std::vector<std::string> loss_sentences(const TraceDb& db);

// "2, 3 and 12 more of 16": ranks of the run that have no process in the file; empty: none.
std::string missing_ranks(const TraceDb& db);

}  // namespace preserve
