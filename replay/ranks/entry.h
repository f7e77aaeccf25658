// SPDX-License-Identifier: Apache-2.0
// The part of a tool that runs once per rank: an error on any rank ends all of them.
#pragma once

#include <functional>

#include "common/cli.h"
#include "replay/ranks/group.h"

namespace preserve {

// Runs `body` as a lone rank, or, where a launcher started this process, with MPI around it. There
// an Error is reported and its exit code is what mpirun returns: the ranks that wait in a
// collective are ended with MPI_Abort.
int run_as_rank(Console& console, const std::function<int(Ranks&)>& body);

}  // namespace preserve
