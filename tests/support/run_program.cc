// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include "common/error.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {
namespace {

[[noreturn]] void become(const std::vector<std::string>& argv,
                         const std::vector<std::string>& environment,
                         const std::filesystem::path& directory, int out, int err) {
  setpgid(0, 0);  // so that a time-out reaches grandchildren (mpirun's ranks) too
  const int in = open("/dev/null", O_RDONLY);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (!directory.empty() && chdir(directory.c_str()) != 0) _exit(126);
  for (const std::string& entry : environment) {
    const size_t equal = entry.find('=');
    setenv(entry.substr(0, equal).c_str(), entry.substr(equal + 1).c_str(), 1);
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

Run run_program(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                const std::filesystem::path& directory, double timeout_s) {
  std::array<int, 2> out{}, err{};
  if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0) {
    throw internal_error("no pipe for {}", argv.front());
  }
  const pid_t child = fork();
  if (child < 0) throw internal_error("cannot fork for {}", argv.front());
  if (child == 0) become(argv, environment, directory, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  Run run;
  std::array<pollfd, 2> polls{pollfd{out[0], POLLIN, 0}, pollfd{err[0], POLLIN, 0}};
  std::array<std::string*, 2> sinks{&run.out, &run.err};
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(int64_t(timeout_s * 1000));
  int open_ends = 2;
  bool killed = false;
  while (open_ends > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                          deadline - std::chrono::steady_clock::now())
                          .count();
    if (left <= 0 && !killed) {
      killpg(child, SIGKILL);
      killed = true;
      run.err += "\n[killed by the test: time-out]\n";
    }
    if (poll(polls.data(), polls.size(), killed ? 1000 : static_cast<int>(left)) == 0 && killed)
      break;
    for (size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].fd < 0 || polls[i].revents == 0) continue;
      std::array<char, 65536> buffer{};
      const ssize_t count = read(polls[i].fd, buffer.data(), buffer.size());
      if (count > 0) {
        sinks[i]->append(buffer.data(), static_cast<size_t>(count));
      } else {
        polls[i].fd = -1;
        --open_ends;
      }
    }
  }
  close(out[0]);
  close(err[0]);
  int status = 0;
  waitpid(child, &status, 0);
  run.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return run;
}

}  // namespace preserve::test
