// SPDX-License-Identifier: Apache-2.0
// Starting the ranks: the tool runs itself again with the hidden option --worker, under mpirun when
// there are several; or it was started by an MPI launcher itself and joins its ranks.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/cli.h"
#include "common/no_copy.h"

namespace preserve {

// The launcher that started this process as one of its ranks. It is detected from the environment:
// OMPI_COMM_WORLD_* (mpirun), PMI_* (Hydra), PMIX_RANK with SLURM_STEP_NUM_TASKS (srun
// --mpi=pmix). A single task of srun counts as an ordinary shell, not as a launcher.
struct Launcher {
  int rank = 0;
  std::optional<int> ranks;  // nothing: not known
};
// usage_error for tasks of srun that MPI cannot connect: each would start ranks of its own.
std::optional<Launcher> find_launcher();

inline constexpr const char* kMeasurementLockFile = "/tmp/preserve-measurement.lock";

// While it exists no other preserve tool measures on this host: two that are pinned to the same
// cores would measure each other. The file is for all users (mode 0666) and holds
// the pid of the measuring process.
class MeasurementLock : NoCopy {
 public:
  // Waits for the other one, after `say` was called with the process that holds it. Where the file
  // cannot be opened, or is not a plain file, `say` gets the reason: no lock, no wait.
  explicit MeasurementLock(const std::function<void(const std::string&)>& say,
                           const std::filesystem::path& path = kMeasurementLockFile);
  ~MeasurementLock();

 private:
  int file_ = -1;
};

// What every tool that starts ranks lets its user choose.
struct LaunchOptions {
  int64_t quiet_patience_ns = 10'000'000'000;  // for wait_for_quiet()
  std::vector<std::string> mpirun;             // words behind a "--": mpirun's own options
};
// Adds --patience and the words behind "--" to `app`, after its other positional arguments.
void define_launch_options(CLI::App& app, LaunchOptions& options);
// usage_error for words for mpirun that did not stand behind a "--" in `words`, or where a launcher
// has started the ranks already.
void check_launch_options(const LaunchOptions& options, const std::vector<std::string>& words);

// Path of mpirun; input_error naming its package when it is missing.
std::filesystem::path find_mpirun();

// How long ranks that should measure for `measuring_ns` may take before they count as hung: ten
// times that and three minutes.
int64_t patience_ns(int64_t measuring_ns);

struct RankLaunch {
  int ranks = 1;
  bool crowded = false;     // more ranks than cores: they give up the core while they wait
  int64_t patience_ns = 0;  // the ranks are ended after this
  std::vector<std::string> arguments;
  std::vector<std::string> environment{};           // NAME=VALUE, for the ranks
  std::vector<std::string> mpirun_options{};        // before the program
  std::function<void(int64_t spent_ns)> waiting{};  // called about twice a second meanwhile
};

// This process's command line (`words`, without its name) for a rank that writes to `target`.
std::vector<std::string> worker_arguments(const std::vector<std::string>& words,
                                          const std::filesystem::path& target);

// For RankLaunch::waiting: a progress bar of a measurement that takes `limit_ns`.
std::function<void(int64_t spent_ns)> progress_of(Console& console, int64_t limit_ns);

// Runs this executable once per rank; a lone one needs no mpirun. Standard output and error pass
// through; a stop signal becomes SIGTERM for the ranks. Returns the exit code, 128 + signal after
// one of those. input_error when the ranks were not done in time.
int run_ranks(const RankLaunch& launch);

// For a rank process started by run_ranks(): it ends when its parent does, whatever ended that.
void end_with_parent();

}  // namespace preserve
