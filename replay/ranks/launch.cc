// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "common/error.h"
#include "common/units.h"
#include "replay/measure/clock.h"

namespace preserve {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// mpirun ends its ranks within seconds, or it hangs itself.
constexpr unsigned kSecondsToEnd = 10;
constexpr int kTellingPeriodMs = 500;
constexpr int64_t kLongestPatienceS = 30 * 24 * 3600;

// For the signal handlers alone.
std::atomic<pid_t> g_child{0};
std::atomic<int> g_signal{0};

void hand_on(int number) {
  g_signal.store(number);
  const pid_t child = g_child.load();
  if (child > 0) ::kill(child, number == SIGINT ? SIGTERM : number);
}

// First politely, so that mpirun ends the ranks; then for good: the ranks die with it.
void end_hung_ranks(int number) {
  const pid_t child = g_child.load();
  const bool again = g_signal.exchange(number) == number;
  if (child > 0) ::kill(child, again ? SIGKILL : SIGTERM);
  ::alarm(kSecondsToEnd);
}

// Signal handlers that are in place as long as this exists.
class Handlers {
 public:
  Handlers() {
    install(SIGINT, hand_on, old_int_);
    install(SIGTERM, hand_on, old_term_);
    install(SIGALRM, end_hung_ranks, old_alarm_);
  }
  ~Handlers() {
    ::alarm(0);
    ::sigaction(SIGINT, &old_int_, nullptr);
    ::sigaction(SIGTERM, &old_term_, nullptr);
    ::sigaction(SIGALRM, &old_alarm_, nullptr);
  }
  Handlers(const Handlers&) = delete;
  Handlers& operator=(const Handlers&) = delete;

 private:
  static void install(int number, void (*handler)(int), struct sigaction& old) {
    struct sigaction action {};
    action.sa_handler = handler;
    ::sigaction(number, &action, &old);
  }
  struct sigaction old_int_ {
  }, old_term_{}, old_alarm_{};
};

std::optional<int> integer_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const auto result = std::from_chars(text, text + std::strlen(text), value);
  if (result.ec != std::errc() || value < 0) return std::nullopt;
  return value;
}

// What Open MPI needs, as its own variables: a version that does not know one ignores it.
void set_launcher_environment(bool crowded) {
  // Ranks are pinned by themselves, and more of them than cores were allowed by our own option.
  ::setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 1);
  ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  if (crowded) ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
  // Containers forbid process_vm_readv; Open MPI then prints a warning per message.
  ::setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
  if (::geteuid() == 0) {
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
}

[[noreturn]] void become(std::vector<std::string> words) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

// Until the child has ended. A kernel before Linux 5.3 cannot say when that is: then nobody is
// told.
void tell_while_it_runs(pid_t child, const std::function<void(int64_t)>& waiting) {
  const int64_t start_ns = monotonic_ns();
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  if (handle < 0) return;
  pollfd ended{handle, POLLIN, 0};
  for (int found = 0; found == 0 || (found < 0 && errno == EINTR);) {
    found = ::poll(&ended, 1, kTellingPeriodMs);
    if (found == 0) waiting(monotonic_ns() - start_ns);
  }
  ::close(handle);
}

int wait_for(pid_t child, const std::function<void(int64_t)>& waiting) {
  if (waiting) tell_while_it_runs(child, waiting);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw internal_error("waitpid: {}", std::strerror(errno));
  }
  if (const int number = g_signal.load(); number != 0) return 128 + number;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

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

// Opened for everybody, never through a link that somebody laid out in the shared folder; and
// without waiting, should it be a pipe.
int open_lock(const std::filesystem::path& path) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  // First without O_CREAT: in a sticky folder another user's file cannot be opened with it.
  int file = ::open(path.c_str(), O_RDWR | kFlags);
  if (file < 0 && errno == ENOENT) {
    file = ::open(path.c_str(), O_RDWR | O_CREAT | kFlags, 0666);
    if (file >= 0) ::fchmod(file, 0666);  // whatever the umask; fails only on another's file
  }
  struct stat status {};
  if (file >= 0 && (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode))) {
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
    say(fmt::format("cannot keep other measurements away with {}: {}", path.string(),
                    std::strerror(errno)));
    return;
  }
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    say(fmt::format("waiting for the measurement of {} to end ({})", holder_of(file_),
                    path.string()));
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  // For those who wait; the lock holds without it.
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file_, 0) == 0) (void)!::pwrite(file_, pid.data(), pid.size(), 0);
}

MeasurementLock::~MeasurementLock() {
  if (file_ < 0) return;
  (void)!::ftruncate(file_, 0);
  ::close(file_);
}

std::filesystem::path find_mpirun() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path candidate = std::filesystem::path(folder) / "mpirun";
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  throw input_error(
      "mpirun is not in PATH, and several ranks are started with it; install openmpi-bin, or start "
      "this tool with a launcher of your own");
}

int64_t patience_ns(int64_t measuring_ns) {
  return checked_add(checked_mul(10, measuring_ns, "time limit"), 60 * kSecondNs, "time limit");
}

int run_ranks(const RankLaunch& launch) {
  std::vector<std::string> words;
  if (launch.ranks > 1) {
    words = {find_mpirun().string(), "--quiet", "-n", std::to_string(launch.ranks)};
    set_launcher_environment(launch.crowded);
  }
  words.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  words.insert(words.end(), launch.arguments.begin(), launch.arguments.end());
  g_signal.store(0);
  const Handlers handlers;
  const pid_t child = ::fork();
  if (child < 0) throw input_error("cannot start the ranks: {}", std::strerror(errno));
  if (child == 0) become(std::move(words));
  g_child.store(child);
  if (const int early = g_signal.load(); early != 0) ::kill(child, SIGTERM);
  const int64_t seconds = std::clamp<int64_t>(launch.patience_ns / kSecondNs, 1, kLongestPatienceS);
  ::alarm(static_cast<unsigned>(seconds));
  const int code = wait_for(child, launch.waiting);
  g_child.store(0);
  if (g_signal.load() == SIGALRM) {
    throw input_error(
        "the ranks were not done after {} and were ended: a rank hangs, or this machine is far too "
        "busy; see what else runs on it, or measure longer",
        format_duration(seconds * kSecondNs));
  }
  return code;
}

void end_with_parent() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace preserve
