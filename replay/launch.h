// SPDX-License-Identifier: Apache-2.0
// Starting the ranks: the tool runs itself again under mpirun, once per rank, with the hidden option
// --worker; or it finds itself started by somebody's launcher and joins.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace preserve {

// Number of ranks that the launcher started (OMPI_COMM_WORLD_SIZE, PMI_SIZE); 0 without a launcher.
int ranks_of_launcher();
// Whether this process is the launcher's rank 0.
bool first_of_launcher();

// Path of mpirun; input_error that says which package has it, when it is absent.
std::filesystem::path find_mpirun();

// Runs this executable `ranks` times with `arguments`. Standard output and error pass through;
// SIGINT and SIGTERM are handed on. Returns the exit code, 128 + signal after one of those.
int run_ranks(int ranks, const std::vector<std::string>& arguments);

}  // namespace preserve
