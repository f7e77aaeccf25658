// SPDX-License-Identifier: Apache-2.0
// The only way into the module that links MPI. ranks.cc loads it when a process has other ranks to
// talk to.
#pragma once

namespace preserve {

class Ranks;

inline constexpr const char* kMpiModule = "libpreserve_mpi.so";
inline constexpr const char* kMpiEntry = "preserve_mpi_ranks";

// Starts MPI; it ends when the object, which the caller owns, is deleted. Throws as Ranks does.
extern "C" Ranks* preserve_mpi_ranks();

}  // namespace preserve
