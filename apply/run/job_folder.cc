// SPDX-License-Identifier: Apache-2.0
#include "apply/run/job_folder.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

#include "common/environment.h"
#include "common/error.h"
#include "common/foreground_child.h"
#include "common/number.h"

namespace preserve::apply {
namespace {

namespace fs = std::filesystem;

// Equal for all launchers of one job on this host, and for no others at the same time.
std::string job_name() {
  if (const std::string job = environment_variable("PMIX_NAMESPACE"); !job.empty())
    return "pmix." + job;
  if (const std::string job = environment_variable("SLURM_JOB_ID"); !job.empty()) {
    return "slurm." + job + "." + environment_variable("SLURM_STEP_ID");
  }
  return "parent." + std::to_string(::getppid());
}

std::string rank_on_host() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}) {
    if (std::string rank = environment_variable(name); !rank.empty()) return rank;
  }
  return launched_rank();
}

void make_private(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0700) == 0) return;
  const int error = errno;
  struct stat status {};
  if (error != EEXIST || ::lstat(folder.c_str(), &status) != 0) {
    throw input_error("cannot create {}: {}; set TMPDIR to a folder that can be written",
                      folder.string(), std::strerror(error));
  }
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 077) != 0) {
    throw input_error("{} is in the way: it is not a folder of this user alone; remove it",
                      folder.string());
  }
}

bool runs(const fs::path& mark) {
  const pid_t pid = number_of<pid_t>(mark.stem().string()).value_or(0);
  return pid > 0 && (::kill(pid, 0) == 0 || errno == EPERM);
}

}  // namespace

JobFolder::JobFolder(const std::optional<fs::path>& shared) {
  const fs::path place = shared ? fs::weakly_canonical(*shared) : temporary_folder();
  if (launched_rank().empty()) {
    own_.emplace("preserve-apply", place);
    path_ = own_->path();
    return;
  }
  path_ = place / fmt::format("preserve-apply-{}-{:016x}", ::geteuid(),
                              std::hash<std::string>{}(job_name()));
  make_private(path_);
  reports_ = rank_on_host() == "0";
  std::ofstream made(mark());
  if (!made) throw input_error("cannot write into {}", path_.string());
}

JobFolder::~JobFolder() {
  std::error_code ignored;  // what remains is a little in the folder for temporary files
  if (reports_) {
    fs::remove_all(path_, ignored);
  } else {
    fs::remove(mark(), ignored);
  }
}

fs::path JobFolder::mark() const {
  return path_ / fmt::format("{}.launcher", ::getpid());
}

void JobFolder::wait_for_others(int64_t limit_ns) const {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::nanoseconds(limit_ns);
  const auto others = [&] {
    for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
      const fs::path& file = entry.path();
      if (file.extension() == ".launcher" && file != mark() && runs(file)) return true;
    }
    return false;
  };
  while (others() && Clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

}  // namespace preserve::apply
