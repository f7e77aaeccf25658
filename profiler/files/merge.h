// SPDX-License-Identifier: Apache-2.0
// --merge: the traces that several preserve-profile wrote, one per rank, as one trace.db. Rows are
// copied with new numbers; nothing is computed anew.
#pragma once

#include <string>
#include <vector>

#include "common/cli.h"

namespace preserve {

int merge_traces(const std::vector<std::string>& inputs, const std::string& output, bool force,
                 Console& console);

}  // namespace preserve
