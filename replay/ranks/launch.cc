// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "common/child_process.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "common/foreground_child.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kReportPeriodNs = 500'000'000;
constexpr int64_t kLongestPatienceNs = 30 * 24 * 3600 * kSecondNs;

std::optional<int> integer_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const auto result = std::from_chars(text, text + std::strlen(text), value);
  if (result.ec != std::errc() || value < 0) return std::nullopt;
  return value;
}

// What Open MPI needs, as its own variables: a version that does not know one ignores it.
std::vector<std::string> launcher_environment(bool crowded) {
  // Ranks are pinned by themselves, and more of them than cores were allowed by our own option.
  std::vector<std::string> variables{"OMPI_MCA_hwloc_base_binding_policy=none",
                                     "OMPI_MCA_rmaps_base_oversubscribe=1"};
  if (crowded) variables.emplace_back("OMPI_MCA_mpi_yield_when_idle=1");
  // Containers forbid process_vm_readv; Open MPI then prints a warning per message.
  if (std::getenv("OMPI_MCA_btl_vader_single_copy_mechanism") == nullptr) {
    variables.emplace_back("OMPI_MCA_btl_vader_single_copy_mechanism=none");
  }
  if (::geteuid() == 0) {
    variables.insert(variables.end(),
                     {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  }
  return variables;
}

}  // namespace

// Not kRankVariables: ranks of torchrun, and of srun without PMIx, cannot reach each other by MPI.
std::optional<Launcher> find_launcher() {
  for (const auto& [rank, ranks] : {std::pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                                    std::pair("PMI_RANK", "PMI_SIZE")}) {
    const std::optional<int> mine = integer_variable(rank);
    if (mine) return Launcher{*mine, integer_variable(ranks)};
  }
  const std::optional<int> tasks = integer_variable("SLURM_STEP_NUM_TASKS");
  if (tasks && *tasks == 1) return std::nullopt;
  if (const std::optional<int> mine = integer_variable("PMIX_RANK")) return Launcher{*mine, tasks};
  if (!tasks) return std::nullopt;
  throw usage_error(
      "srun started {} tasks without connecting them for MPI, so each would start {} ranks of its "
      "own: start them with srun --mpi=pmix, or this tool once without srun",
      *tasks, *tasks);
}

namespace {

// Opened for all users, never through a link, symbolic or hard, that another user put into the
// shared folder, and without waiting in case it is a pipe.
int open_lock(const std::filesystem::path& path) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  // First without O_CREAT: in a sticky folder another user's file cannot be opened with it.
  int file = ::open(path.c_str(), O_RDWR | kFlags);
  if (file < 0 && errno == ENOENT) {
    file = ::open(path.c_str(), O_RDWR | O_CREAT | kFlags, 0666);
    if (file >= 0) ::fchmod(file, 0666);  // whatever the umask; fails only on another's file
  }
  struct stat status {};
  if (file >= 0 &&
      (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1)) {
    ::close(file);
    errno = EINVAL;
    return -1;
  }
  return file;
}

std::string holder_of(int file) {
  char text[32] = {};
  const ssize_t bytes = ::pread(file, text, sizeof text - 1, 0);
  int pid = 0;
  if (bytes > 0) std::from_chars(text, text + bytes, pid);
  return pid > 0 ? fmt::format("process {}", pid) : "another process";
}

}  // namespace

MeasurementLock::MeasurementLock(const std::function<void(const std::string&)>& say,
                                 const std::filesystem::path& path) {
  file_ = open_lock(path);
  if (file_ < 0) {
    say(fmt::format("cannot lock out other measurements with {}: {}", path.string(),
                    std::strerror(errno)));
    return;
  }
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    say(fmt::format("waiting for the measurement of {} to end ({})", holder_of(file_),
                    path.string()));
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  // Shown by waiting processes; the lock holds without it.
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file_, 0) == 0) (void)!::pwrite(file_, pid.data(), pid.size(), 0);
}

MeasurementLock::~MeasurementLock() {
  if (file_ < 0) return;
  (void)!::ftruncate(file_, 0);
  ::close(file_);
}

void define_launch_options(CLI::App& app, LaunchOptions& options) {
  app.add_option("--patience", options.quiet_patience_ns,
                 "Wait at most this long for other programs to leave the cores alone")
      ->transform(as_duration_ns())
      ->envname("PRESERVE_PATIENCE")
      ->default_str("10s");
  app.add_option("mpirun", options.mpirun,
                 "Behind --: options for mpirun, such as --mca btl self,tcp");
}

void check_launch_options(const LaunchOptions& options, const std::vector<std::string>& words) {
  if (options.mpirun.empty()) return;
  const size_t behind = static_cast<size_t>(words.end() - std::ranges::find(words, "--"));
  if (behind != options.mpirun.size() + 1) {
    throw usage_error("unexpected argument {}: options for mpirun go behind --",
                      printable(options.mpirun.front(), 80));
  }
  if (find_launcher()) {
    throw usage_error("options for mpirun make no sense here: a launcher has started the ranks");
  }
}

std::filesystem::path find_mpirun() {
  if (const Program mpirun = find_program("mpirun"); mpirun.code == 0) return mpirun.path;
  throw input_error(
      "cannot find mpirun in PATH, which starts several ranks: install openmpi-bin, or start this "
      "tool with a launcher of your own");
}

int64_t patience_ns(int64_t measuring_ns) {
  return checked_add(checked_mul(10, measuring_ns, "time limit"), 180 * kSecondNs, "time limit");
}

std::vector<std::string> worker_arguments(const std::vector<std::string>& words,
                                          const std::filesystem::path& target) {
  std::vector<std::string> arguments{"--worker", target.string()};  // first: words may have a "--"
  arguments.insert(arguments.end(), words.begin(), words.end());
  return arguments;
}

std::function<void(int64_t)> progress_of(Console& console, int64_t limit_ns) {
  return [&console, limit_ns](int64_t spent_ns) {
    console.progress("measuring", static_cast<double>(spent_ns), static_cast<double>(limit_ns));
  };
}

int run_ranks(const RankLaunch& launch) {
  ChildSetup setup;
  if (launch.ranks > 1) {
    setup.argv = {find_mpirun().string(), "--quiet", "-n", std::to_string(launch.ranks)};
    setup.environment = launcher_environment(launch.crowded);
    setup.argv.insert(setup.argv.end(), launch.mpirun_options.begin(), launch.mpirun_options.end());
  }
  // Before ours, so that it is what counts: the program's own transport is the one to measure.
  setup.environment.insert(setup.environment.begin(), launch.environment.begin(),
                           launch.environment.end());
  setup.argv.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  setup.argv.insert(setup.argv.end(), launch.arguments.begin(), launch.arguments.end());
  setup.end_with_us = SIGTERM;
  const int64_t time_limit_ns = std::clamp(launch.patience_ns, kSecondNs, kLongestPatienceNs);
  // mpirun ends its ranks within seconds of a SIGTERM; when it hangs itself they die with it.
  const StopSignals stop;
  const ChildEnd end = Child(setup).wait(
      {.meanwhile = launch.waiting, .period_ns = kReportPeriodNs, .time_limit_ns = time_limit_ns});
  if (const int number = StopSignals::received(); number != 0) return 128 + number;
  if (end.timed_out) {
    throw input_error(
        "the ranks were not done after {} and were ended: a rank hangs, or this machine is far too "
        "busy; see what else runs on it, or measure longer",
        format_duration(time_limit_ns));
  }
  return end.exit_code;
}

void end_with_parent() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace preserve
