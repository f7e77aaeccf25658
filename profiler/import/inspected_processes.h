// SPDX-License-Identifier: Apache-2.0
// By which processes the communicators of each log are seen. The rank is the one in the
// communicator, so it names a rank of the run only where the communicator holds all of them; the
// process id does where the trace has it; a single log and a single process were given for each
// other.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/import/inspector.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {

// By log: the processes that it describes. `read`: files and what is in them. `world_size`: of the
// run, where a trace says it.
std::vector<std::vector<InspectedProcess>> inspected_by(
    const TraceDb& db, const std::vector<ImportedProcess>& processes,
    std::optional<int64_t> world_size,
    const std::vector<std::pair<std::string, InspectorLog>>& read);

}  // namespace preserve::import
