// SPDX-License-Identifier: Apache-2.0
#include "common/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/clock.h"
#include "common/error.h"

namespace preserve {
namespace {

constexpr size_t kKeptBytes = 64 << 10;
constexpr int64_t kGraceNs = 10'000'000'000;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kLongestPollMs = 1000;
constexpr int64_t kPollWithoutHandleMs = 20;  // Linux before 5.3 cannot wake us at a child's end
constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGHUP};

// For the signal handlers alone.
std::atomic<int> g_received{0};
std::atomic<pid_t> g_forward_to{0};
std::atomic<bool> g_interrupted{false};

struct sigaction remembering() {
  g_received.store(0);
  struct sigaction action {};
  action.sa_handler = [](int number) { g_received.store(number); };
  action.sa_flags = SA_RESTART;  // poll() wakes up nevertheless
  return action;
}

// The terminal sends its signals to the whole foreground group, so the child has those already: a
// second copy would read as impatience (mpirun aborts at the second Ctrl-C).
void forward(int number, siginfo_t* info, void*) {
  if (number == SIGINT) g_interrupted.store(true);
  const pid_t pid = g_forward_to.load();
  const bool from_terminal = info->si_code == SI_KERNEL;
  if (pid > 0 && !from_terminal) ::kill(pid, number);
}

// nohup and background shells set signals to ignored: that stays so, also for the child.
void handle_unless_ignored(int number, const struct sigaction& action, struct sigaction& before) {
  ::sigaction(number, nullptr, &before);
  if (before.sa_handler != SIG_IGN) ::sigaction(number, &action, nullptr);
}

void forward_signals(const std::vector<int>& numbers) {
  g_interrupted.store(false);
  struct sigaction action {};
  action.sa_sigaction = forward;
  action.sa_flags = SA_SIGINFO;
  struct sigaction before {};
  for (const int number : numbers) handle_unless_ignored(number, action, before);
}

// What exec does anyway, but before signals are let in: none may run our handlers in the child.
void reset_handlers() {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN &&
        action.sa_handler != SIG_DFL) {
      ::signal(number, SIG_DFL);
    }
  }
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> environment_with(const std::vector<std::string>& changes) {
  std::vector<std::string> all = changes;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view entry = *at;
    const std::string_view name = entry.substr(0, entry.find('=') + 1);
    if (std::ranges::none_of(changes,
                             [&](const std::string& change) { return change.starts_with(name); })) {
      all.emplace_back(entry);
    }
  }
  return all;
}

// One read of a pipe that poll() reported. False when it is closed.
bool read_piece(int from, const std::function<void(std::string_view)>& to) {
  std::array<char, 65536> buffer;
  const ssize_t count = ::read(from, buffer.data(), buffer.size());
  if (count > 0 && to) to({buffer.data(), static_cast<size_t>(count)});
  return count > 0 || (count < 0 && errno == EINTR);
}

void keep_last(std::string& text, std::string_view piece) {
  text += piece;
  if (text.size() > kKeptBytes) text.erase(0, text.size() - kKeptBytes);
}

}  // namespace

StopHandlers::StopHandlers(const struct sigaction& action) {
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    handle_unless_ignored(kStopSignals[i], action, before_[i]);
  }
}

StopHandlers::~StopHandlers() {
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    ::sigaction(kStopSignals[i], &before_[i], nullptr);
  }
}

StopSignals::StopSignals() : handlers_(remembering()) {}

const std::atomic<int>& StopSignals::received() {
  return g_received;
}

Child::Pipe::Pipe(bool wanted) {
  std::array<int, 2> ends{};
  if (!wanted) return;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw internal_error("cannot make a pipe: {}", std::strerror(errno));
  }
  read_end = ends[0];
  write_end = ends[1];
}

Child::Pipe::~Pipe() {
  if (read_end >= 0) ::close(read_end);
  close_write();
}

void Child::Pipe::close_write() {
  if (write_end >= 0) ::close(write_end);
  write_end = -1;
}

Child::Child(const ChildSetup& setup)
    : out_(setup.pipe_output), err_(setup.pipe_output), own_group_(setup.own_group) {
  std::vector<std::string> words = setup.argv;
  std::vector<std::string> variables = environment_with(setup.environment);
  Start start{pointers_to(words), pointers_to(variables), ::getpid(), Pipe(true)};
  // No signal between fork and the moment when the handler knows the child.
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &start.mask);
  if (!setup.forwarded.empty()) forward_signals(setup.forwarded);
  pid_ = ::fork();
  if (pid_ == 0) become(setup, start);
  const int fork_error = errno;
  if (pid_ > 0 && own_group_) ::setpgid(pid_, pid_);  // here too: whoever comes first
  if (!setup.forwarded.empty()) g_forward_to.store(pid_);
  ::sigprocmask(SIG_SETMASK, &start.mask, nullptr);
  if (pid_ < 0) throw internal_error("cannot start a process: {}", std::strerror(fork_error));
  out_.close_write();
  err_.close_write();
  start.report.close_write();
  ssize_t got = 0;
  do {
    got = ::read(start.report.read_end, &exec_error_, sizeof exec_error_);
  } while (got < 0 && errno == EINTR);
}

Child::~Child() {
  if (pid_ < 0) return;
  signal(SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  ended();
}

// Between fork and exec: allocates nothing, for another thread may have held the allocator's lock.
void Child::become(const ChildSetup& setup, Start& start) {
  reset_handlers();
  ::sigprocmask(SIG_SETMASK, &start.mask, nullptr);
  if (own_group_) ::setpgid(0, 0);
  if (setup.end_with_us != 0) {
    ::prctl(PR_SET_PDEATHSIG, setup.end_with_us);
    if (::getppid() != start.parent) ::_exit(127);  // we died before that
  }
  const int null = setup.own_input ? -1 : ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  if (setup.pipe_output) {
    ::dup2(out_.write_end, STDOUT_FILENO);
    ::dup2(err_.write_end, STDERR_FILENO);
  }
  if (!setup.folder.empty() && ::chdir(setup.folder.c_str()) != 0) ::_exit(126);
  if (setup.body) {
    start.report.close_write();
    setup.body();
    ::_exit(0);
  }
  environ = start.environment.data();  // PATH is the child's
  ::execvp(start.argv.front(), start.argv.data());
  const int error = errno;
  (void)!::write(start.report.write_end, &error, sizeof error);
  ::_exit(error == ENOENT ? 127 : 126);
}

void Child::signal(int number) const {
  if (own_group_) {
    ::killpg(pid_, number);
  } else {
    ::kill(pid_, number);
  }
}

void Child::ended() {
  if (g_forward_to.load() == pid_) g_forward_to.store(0);
  pid_ = -1;
}

ChildEnd Child::wait(const ChildWatch& watch) {
  const int64_t start_ns = monotonic_ns();
  int64_t next_call_ns = watch.meanwhile ? watch.period_ns : INT64_MAX;
  int64_t next_signal_ns = watch.time_limit_ns;
  int next_signal = watch.limit_signal;
  Pipe handle(false);  // readable when the child has ended
  handle.read_end = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  std::array<pollfd, 3> ends{pollfd{out_.read_end, POLLIN, 0}, pollfd{err_.read_end, POLLIN, 0},
                             pollfd{handle.read_end, POLLIN, 0}};
  bool gone = false, stopping = false;
  int status = 0;
  ChildEnd end;
  while (true) {
    const bool closed = ends[0].fd < 0 && ends[1].fd < 0;
    if (gone && closed) break;
    // A descendant that stays may keep a pipe open: then only what is in it now is read.
    const bool drain = gone && !own_group_;
    const int64_t spent_ns = monotonic_ns() - start_ns;
    const int64_t due_ms = (std::min(next_call_ns, next_signal_ns) - spent_ns) / kNsPerMs + 1;
    const int64_t most_ms = gone || handle.read_end >= 0 ? kLongestPollMs : kPollWithoutHandleMs;
    const int timeout_ms = drain ? 0 : static_cast<int>(std::clamp<int64_t>(due_ms, 0, most_ms));
    const int ready = ::poll(ends.data(), ends.size(), timeout_ms);
    if (ready == 0 && gone && (drain || end.timed_out)) break;
    for (size_t i = 0; ready > 0 && i < 2; ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      if (!read_piece(ends[i].fd, i == 0 ? watch.out : watch.err)) ends[i].fd = -1;
    }
    if (!gone) {
      const pid_t found = ::waitpid(pid_, &status, WNOHANG);
      if (found < 0 && errno != EINTR) throw internal_error("waitpid: {}", std::strerror(errno));
      gone = found == pid_;
      if (gone) ends[2].fd = -1;
    }
    if (!gone && StopSignals::received() != 0 && !stopping) {
      signal(SIGTERM);
      stopping = true;
    }
    const int64_t now_ns = monotonic_ns() - start_ns;
    if (now_ns >= next_signal_ns && (!gone || own_group_)) {
      signal(next_signal);
      end.timed_out = true;
      next_signal_ns = next_signal == SIGKILL ? INT64_MAX : now_ns + kGraceNs;
      next_signal = SIGKILL;
    }
    if (!gone && now_ns >= next_call_ns) {
      watch.meanwhile(now_ns);
      next_call_ns = now_ns + watch.period_ns;
    }
  }
  ended();
  end.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  end.interrupted = g_interrupted.load();
  return end;
}

ChildRun run_child_quietly(const std::vector<std::string>& argv,
                           const std::function<void()>& waiting,
                           const std::function<void(std::string_view)>& heard) {
  ChildSetup setup;
  setup.argv = argv;
  setup.pipe_output = true;
  setup.end_with_us = SIGTERM;
  ChildRun run;
  ChildWatch watch;
  watch.out = [&](std::string_view piece) { keep_last(run.out, piece); };
  watch.err = [&](std::string_view piece) {
    keep_last(run.err, piece);
    if (heard) heard(piece);
  };
  if (waiting) watch.meanwhile = [&](int64_t) { waiting(); };
  run.exit_code = Child(setup).wait(watch).exit_code;
  return run;
}

void write_through(std::string_view text) {
  (void)!::write(STDERR_FILENO, text.data(), text.size());
}

std::filesystem::path sibling_tool(const std::string& name) {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  std::filesystem::path path = self.parent_path() / name;
  if (::access(path.c_str(), X_OK) == 0) return path;
  throw input_error("cannot find {}: Preserve's tools must be installed in the same folder",
                    path.string());
}

std::string last_error(const ChildRun& run) {
  constexpr std::string_view kMark = ": error: ";
  const size_t at = run.err.rfind(kMark);
  std::string text = run.err.substr(at == std::string::npos ? 0 : at + kMark.size());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  // Without the mark only the last line can be the reason.
  if (at == std::string::npos) text = text.substr(text.rfind('\n') + 1);
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace preserve
