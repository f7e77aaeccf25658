// SPDX-License-Identifier: Apache-2.0
// What preserve-replay prints on standard output, from the result that it has read back from its
// replay.db: the file holds everything that is printed.
#pragma once

#include <string>

#include "db/replay_result.h"

namespace preserve {

std::string summary_of(const ReplayResult& result);

}  // namespace preserve
