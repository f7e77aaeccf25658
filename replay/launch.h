// SPDX-License-Identifier: Apache-2.0
// Starting the ranks: the tool runs itself again under mpirun, once per rank, with the hidden
// option
// --worker; or it finds itself started by somebody's launcher and joins.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace preserve {

// Number of ranks that the launcher started (OMPI_COMM_WORLD_SIZE, PMI_SIZE); 0 without a launcher.
int ranks_of_launcher();
// Whether this process is the launcher's rank 0.
bool first_of_launcher();

// While it exists no other preserve tool measures on this host: two that are pinned to the same
// cores would measure each other.
class MeasurementLock {
 public:
  // Waits for the other one; `waiting` is called once before. Where the lock file cannot be opened
  // (a read-only or foreign temporary folder) there is no lock and no wait.
  explicit MeasurementLock(const std::function<void()>& waiting);
  ~MeasurementLock();
  MeasurementLock(const MeasurementLock&) = delete;
  MeasurementLock& operator=(const MeasurementLock&) = delete;

 private:
  int file_ = -1;
};

// Path of mpirun; input_error that says which package has it, when it is absent.
std::filesystem::path find_mpirun();

// Runs this executable `ranks` times with `arguments`. Standard output and error pass through;
// SIGINT and SIGTERM are handed on. Returns the exit code, 128 + signal after one of those.
int run_ranks(int ranks, const std::vector<std::string>& arguments);

}  // namespace preserve
