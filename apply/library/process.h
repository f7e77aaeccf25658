// SPDX-License-Identifier: Apache-2.0
// This process: the plan that it was started with, where it keeps its outcome, and what happens to
// both in children.
#pragma once

#include "apply/library/regions.h"
#include "apply/library/session.h"

namespace preserve::apply {

// Whether there is a plan, and this process is the one that loaded it. Constant but for a fork.
bool has_plan();
Session* session();        // of an MPI rank; nullptr before MPI_Init
OutcomeHeader* outcome();  // only with a plan
// After MPI_Init. `library` in one line; `engine` is for plans that need the MPI library's.
void start_session(int rank, int ranks, std::string_view library, const Engine& engine);

// From now on the tensors hear of memory that is given up, and where the plan names allocations, of
// those; nullptr: no longer.
void watch_memory(Tensors* tensors);

}  // namespace preserve::apply
