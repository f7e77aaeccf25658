// SPDX-License-Identifier: Apache-2.0
#include "replay/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "common/error.h"

namespace preserve {
namespace {

// For the signal handler alone.
std::atomic<pid_t> g_child{0};
std::atomic<int> g_signal{0};

void hand_on(int number) {
  g_signal.store(number);
  const pid_t child = g_child.load();
  if (child > 0) ::kill(child, number == SIGINT ? SIGTERM : number);
}

int integer_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  int value = 0;
  const auto result = std::from_chars(text, text + std::strlen(text), value);
  return result.ec == std::errc() && value > 0 ? value : 0;
}

// What Open MPI needs, as its own variables: a version that does not know one ignores it.
void set_launcher_environment() {
  // Ranks are pinned by themselves, and more of them than cores were allowed by our own option.
  ::setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
  ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  // Containers forbid process_vm_readv; Open MPI then prints a warning per message.
  ::setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
  if (::geteuid() == 0) {
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
}

[[noreturn]] void become_mpirun(const std::filesystem::path& mpirun,
                                std::vector<std::string> words) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(mpirun.c_str(), argv.data());
  ::_exit(127);
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw internal_error("waitpid: {}", std::strerror(errno));
  }
  if (const int number = g_signal.load(); number != 0) return 128 + number;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int ranks_of_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const int ranks = integer_variable(name); ranks > 0) return ranks;
  }
  return 0;
}

bool first_of_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK"}) {
    if (const char* rank = std::getenv(name); rank != nullptr) return std::string_view(rank) == "0";
  }
  return true;
}

MeasurementLock::MeasurementLock(const std::function<void()>& waiting) {
  std::error_code none;
  const auto path = std::filesystem::temp_directory_path(none) / "preserve-measurement.lock";
  // First without O_CREAT: in a sticky folder another user's file cannot be opened with it.
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) file_ = ::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0 || ::flock(file_, LOCK_EX | LOCK_NB) == 0) return;
  waiting();
  while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
  }
}

MeasurementLock::~MeasurementLock() {
  if (file_ >= 0) ::close(file_);
}

std::filesystem::path find_mpirun() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path candidate = std::filesystem::path(folder) / "mpirun";
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  throw input_error(
      "mpirun is not in PATH, and the ranks are started with it; install openmpi-bin, or start "
      "this "
      "tool with a launcher of your own");
}

int run_ranks(int ranks, const std::vector<std::string>& arguments) {
  const std::filesystem::path mpirun = find_mpirun();
  std::vector<std::string> words{mpirun.string(), "--quiet", "-n", std::to_string(ranks),
                                 std::filesystem::read_symlink("/proc/self/exe").string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  set_launcher_environment();
  g_signal.store(0);
  struct sigaction action {};
  action.sa_handler = hand_on;
  struct sigaction old_int {
  }, old_term{};
  ::sigaction(SIGINT, &action, &old_int);
  ::sigaction(SIGTERM, &action, &old_term);
  const pid_t child = ::fork();
  if (child < 0) throw input_error("cannot start mpirun: {}", std::strerror(errno));
  if (child == 0) become_mpirun(mpirun, std::move(words));
  g_child.store(child);
  if (const int early = g_signal.load(); early != 0) ::kill(child, SIGTERM);
  const int code = wait_for(child);
  g_child.store(0);
  ::sigaction(SIGINT, &old_int, nullptr);
  ::sigaction(SIGTERM, &old_term, nullptr);
  return code;
}

}  // namespace preserve
