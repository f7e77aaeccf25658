// SPDX-License-Identifier: Apache-2.0
// Running another program: how it starts, what happens to signals, how it ended. Above it the
// common case: one tool runs another quietly, and keeps what the child printed in case it fails.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "common/no_copy.h"

namespace preserve {

// While it exists SIGINT, SIGTERM and SIGHUP are handled so, apart from those that were ignored
// before: nohup and background shells do that, and it stays so.
class StopHandlers : NoCopy {
 public:
  explicit StopHandlers(const struct sigaction& action);
  ~StopHandlers();

 private:
  std::array<struct sigaction, 3> before_;
};

// While it exists SIGINT, SIGTERM and SIGHUP are stored here instead of ending the process. One at
// a time.
class StopSignals {
 public:
  StopSignals();

  static const std::atomic<int>& received();  // number of the last one, 0 for none

 private:
  StopHandlers handlers_;
};

// How a child starts. It gets default actions for the signals that we handle.
struct ChildSetup {
  std::vector<std::string> argv;           // argv[0] is looked up in PATH unless it has a slash
  std::vector<std::string> environment{};  // "NAME=value", for the child only, over our variables
  std::filesystem::path folder{};          // where it runs; empty: where we do
  std::function<void()> body{};            // runs in the child, in place of argv
  bool own_input = false;                  // reads our standard input; else it is empty
  bool pipe_output = false;  // its standard output and error come to Child::wait(); else are ours
  bool own_group = false;    // a process group of its own, with all its descendants
  int end_with_us = 0;       // signal that it gets when we die; 0: it survives us
  // Forwarded to the child at once, unless the terminal sent them: then it has them already. From
  // now on they do nothing else to us, also after the child has ended. One such child at a time.
  std::vector<int> forwarded{};
};

// What to do until a child has ended.
struct ChildWatch {
  std::function<void(std::string_view)> out{}, err{};  // what it prints, piece by piece
  std::function<void(int64_t spent_ns)> meanwhile{};   // called once per period
  int64_t period_ns = 1'000'000'000;
  int64_t time_limit_ns = std::numeric_limits<int64_t>::max();
  // When the time is over, to the child or its group; SIGKILL follows ten seconds after it.
  int limit_signal = SIGTERM;
};

struct ChildEnd {
  int exit_code = 0;  // 128 + signal when it was killed
  bool timed_out = false;
  bool interrupted = false;  // SIGINT was forwarded, or the terminal sent it to both
};

class Child : NoCopy {
 public:
  // Starts it. internal_error when there is no process or pipe left.
  explicit Child(const ChildSetup& setup);
  ~Child();  // one that was not waited for is killed

  // errno of the exec that failed, 0 when the program runs. Its exit code is then 127 where there
  // is no such file, else 126.
  int exec_error() const { return exec_error_; }

  // Until the child has ended; one with a group of its own: until all its output pipes are closed
  // too. A stop signal of ours (StopSignals) becomes SIGTERM for the child.
  ChildEnd wait(const ChildWatch& watch = {});

 private:
  // Both ends close when it goes; -1 is no end.
  struct Pipe : NoCopy {
    explicit Pipe(bool wanted);
    ~Pipe();
    void close_write();
    int read_end = -1, write_end = -1;
  };
  // Made before the fork: after it nothing may be allocated.
  struct Start {
    std::vector<char*> argv, environment;
    pid_t parent = 0;
    Pipe report;  // errno of a failed exec; closed by one that succeeds
    sigset_t mask{};
  };

  [[noreturn]] void become(const ChildSetup& setup, Start& start);
  void signal(int number) const;
  void ended();

  Pipe out_, err_;
  bool own_group_ = false;
  pid_t pid_ = -1;  // -1 once it has ended
  int exec_error_ = 0;
};

struct ChildRun {
  int exit_code = 0;     // 128 + signal when it was killed
  std::string out, err;  // the last 64 KiB of each
};

// Runs a tool with empty input until it ends. It gets SIGTERM when we do or die. `waiting` is
// called about once a second meanwhile, `heard` with every piece of its standard error.
ChildRun run_child_quietly(const std::vector<std::string>& argv,
                           const std::function<void()>& waiting = {},
                           const std::function<void(std::string_view)>& heard = {});

// For `heard`: to our own standard error.
void write_through(std::string_view text);

// The tool of this name in the folder of the running one. input_error when it is missing.
std::filesystem::path sibling_tool(const std::string& name);

// The last error that a failed child printed, without its own "preserve-x: error: "; one line.
std::string last_error(const ChildRun& run);

}  // namespace preserve
