// SPDX-License-Identifier: Apache-2.0
// How the recorded program's messages travelled: a replay measures the same collectives only over
// the same transport.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "db/trace_db.h"

namespace preserve {

struct Transport {
  // Settings of the recording that this environment lacks, NAME=VALUE, for the ranks.
  std::vector<std::string> missing;
  std::vector<std::string> warnings;  // what differs here, and what was not taken over
};

// Compares the transport settings in the recorded environment of `rank` (docs/formats.md,
// Environment) with the environment of this process and what `mpirun_options` set (--mca NAME
// VALUE, -x NAME=VALUE), which mpirun prefers. A recording is a file from anywhere: values
// that name files or folders are not taken over, since libraries load code from such places.
Transport compare_transport(const TraceDb& db, int64_t rank,
                            const std::vector<std::string>& mpirun_options = {});

// A sentence when the recording's MPI library (meta.mpi_library) is another than `here`; empty when
// it is the same or was not recorded.
std::string other_mpi_library(const TraceDb& db, const std::string& here);

}  // namespace preserve
