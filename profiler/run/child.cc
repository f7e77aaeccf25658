// SPDX-License-Identifier: Apache-2.0
#include "profiler/run/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/error.h"

namespace preserve {
namespace {

constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

std::atomic<pid_t> child_pid{0};
std::atomic<bool> interrupted{false};
std::atomic<int> stop_signal{0};

// The terminal sends its signals to the whole foreground group, so the child has those already: a
// second copy would read as impatience (mpirun aborts at the second Ctrl-C). Only what another
// process sent to us alone is passed on.
void forward(int signal, siginfo_t* info, void*) {
  if (signal == SIGINT) interrupted.store(true);
  const pid_t pid = child_pid.load();
  const bool from_terminal = info->si_code == SI_KERNEL;
  if (pid > 0 && !from_terminal) ::kill(pid, signal);
}

void remember(int signal) {
  stop_signal.store(signal);
}

void set_handlers(struct sigaction (&before)[std::size(kForwarded)]) {
  struct sigaction action {};
  action.sa_sigaction = forward;
  action.sa_flags = SA_SIGINFO;  // no SA_RESTART: waiting is a loop, and wakes to see the signal
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < std::size(kForwarded); ++i) {
    ::sigaction(kForwarded[i], nullptr, &before[i]);
    // nohup and background shells set signals to ignored: that must reach the child.
    if (before[i].sa_handler != SIG_IGN) ::sigaction(kForwarded[i], &action, nullptr);
  }
}

[[noreturn]] void become(const std::vector<std::string>& command,
                         const std::vector<std::pair<std::string, std::string>>& environment,
                         const struct sigaction (&before)[std::size(kForwarded)],
                         const sigset_t& mask, int report) {
  for (size_t i = 0; i < std::size(kForwarded); ++i) {
    ::sigaction(kForwarded[i], &before[i], nullptr);
  }
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int error = errno;
  (void)!::write(report, &error, sizeof(error));
  ::_exit(error == ENOENT ? 127 : 126);
}

}  // namespace

Program find_program(const std::string& command) {
  const auto try_path = [](const std::string& path) -> Program {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      const int error = errno;
      return {path, error == ENOENT || error == ENOTDIR ? 127 : 126, std::strerror(error)};
    }
    if (S_ISDIR(status.st_mode)) return {path, 126, "is a directory"};
    if (::access(path.c_str(), X_OK) != 0) return {path, 126, "is not executable"};
    return {path, 0, ""};
  };
  if (command.empty()) return {command, 127, "the command is empty"};
  if (command.find('/') != std::string::npos) return try_path(command);
  const char* variable = std::getenv("PATH");
  std::string rest = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
  Program denied{command, 127, "no such command in PATH"};
  while (true) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string folder = colon == 0 ? "." : rest.substr(0, colon);
    Program found = try_path(folder + "/" + command);
    if (found.code == 0) return found;
    if (found.code == 126 && found.error != "is a directory") denied = found;
    if (colon == rest.size()) return denied;
    rest.erase(0, colon + 1);
  }
}

ChildResult run_child(const std::vector<std::string>& command,
                      const std::vector<std::pair<std::string, std::string>>& environment) {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) throw internal_error("pipe: {}", std::strerror(errno));
  // No signal between fork and the moment when the handler knows the child.
  sigset_t all, mask;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &mask);
  struct sigaction before[std::size(kForwarded)];
  set_handlers(before);
  const pid_t pid = ::fork();
  if (pid == 0) become(command, environment, before, mask, report[1]);
  const int fork_error = errno;
  child_pid.store(pid);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::close(report[1]);
  if (pid < 0) {
    ::close(report[0]);
    throw internal_error("cannot start a process: {}", std::strerror(fork_error));
  }
  ChildResult result;
  int exec_error = 0;
  ssize_t got = 0;
  do {
    got = ::read(report[0], &exec_error, sizeof(exec_error));
  } while (got < 0 && errno == EINTR);
  ::close(report[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  child_pid.store(0);
  if (got == sizeof(exec_error)) {
    result.started = false;
    result.error = std::strerror(exec_error);
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.interrupted = interrupted.load();
  return result;
}

const std::atomic<int>& catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
  return stop_signal;
}

}  // namespace preserve
