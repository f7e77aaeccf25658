// SPDX-License-Identifier: Apache-2.0
#include "common/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace preserve {
namespace {

constexpr size_t kKeptBytes = 64 << 10;
constexpr int kWaitMs = 1000;
constexpr std::array kStopSignals{SIGINT, SIGTERM, SIGHUP};

std::atomic<int> g_received{0};
std::array<struct sigaction, kStopSignals.size()> g_before;

void remember(int number) {
  g_received.store(number);
}

[[noreturn]] void become(const std::vector<char*>& argv, pid_t parent, int out, int err) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // it died before it could be heard
  for (const int number : kStopSignals) ::signal(number, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  ::execv(argv.front(), argv.data());
  ::_exit(127);
}

void keep_last(std::string& text, const char* bytes, size_t count) {
  text.append(bytes, count);
  if (text.size() > kKeptBytes) text.erase(0, text.size() - kKeptBytes);
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      throw internal_error("no pipe: {}", std::strerror(errno));
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    ::close(read_end);
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_write() {
    if (write_end >= 0) ::close(write_end);
    write_end = -1;
  }
  int read_end = -1, write_end = -1;
};

// Until both ends are closed or the child is gone: a grandchild may keep an end open for longer.
void listen(pid_t child, Pipe& out, Pipe& err, ChildRun& run, int& status,
            const std::function<void()>& waiting,
            const std::function<void(std::string_view)>& heard) {
  std::array<pollfd, 2> ends{pollfd{out.read_end, POLLIN, 0}, pollfd{err.read_end, POLLIN, 0}};
  const std::array<std::string*, 2> texts{&run.out, &run.err};
  bool stopping = false, gone = false;
  while (true) {
    const int ready = ::poll(ends.data(), ends.size(), gone ? 0 : kWaitMs);
    if (ready > 0) {
      for (size_t i = 0; i < ends.size(); ++i) {
        if (ends[i].fd < 0 || ends[i].revents == 0) continue;
        std::array<char, 16384> buffer{};
        const ssize_t count = ::read(ends[i].fd, buffer.data(), buffer.size());
        if (count > 0) {
          const auto bytes = static_cast<size_t>(count);
          keep_last(*texts[i], buffer.data(), bytes);
          if (heard && texts[i] == &run.err) heard({buffer.data(), bytes});
        }
        if (count == 0 || (count < 0 && errno != EINTR)) ends[i].fd = -1;
      }
    } else if (gone) {
      return;
    }
    if (StopSignals::received() != 0 && !stopping) {
      ::kill(child, SIGTERM);
      stopping = true;
    }
    const bool silent = ends[0].fd < 0 && ends[1].fd < 0;
    if (!gone) gone = ::waitpid(child, &status, silent ? 0 : WNOHANG) == child;
    if (gone && silent) return;
    if (ready == 0 && waiting) waiting();
  }
}

}  // namespace

StopSignals::StopSignals() {
  g_received.store(0);
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = remember;
    ::sigaction(kStopSignals[i], &action, &g_before[i]);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kStopSignals.size(); ++i) {
    ::sigaction(kStopSignals[i], &g_before[i], nullptr);
  }
}

int StopSignals::received() {
  return g_received.load();
}

ChildRun run_child_quietly(const std::vector<std::string>& argv,
                           const std::function<void()>& waiting,
                           const std::function<void(std::string_view)>& heard) {
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  Pipe out, err;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw input_error("cannot start {}: {}", argv.front(), std::strerror(errno));
  if (child == 0) become(pointers, parent, out.write_end, err.write_end);
  out.close_write();
  err.close_write();
  ChildRun run;
  int status = 0;
  listen(child, out, err, run, status, waiting, heard);
  run.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return run;
}

std::filesystem::path sibling_tool(const std::string& name) {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  const std::filesystem::path path = self.parent_path() / name;
  if (::access(path.c_str(), X_OK) == 0) return path;
  throw input_error("{} is not there: the tools need each other in one folder", path.string());
}

std::string last_error(const ChildRun& run) {
  constexpr std::string_view kMark = ": error: ";
  const size_t at = run.err.rfind(kMark);
  std::string text = run.err.substr(at == std::string::npos ? 0 : at + kMark.size());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  // Without the mark only the last line can be the reason.
  if (at == std::string::npos) text = text.substr(text.rfind('\n') + 1);
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

}  // namespace preserve
