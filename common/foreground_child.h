// SPDX-License-Identifier: Apache-2.0
// A tool as the launcher of the user's command: the child has our streams, gets the signals sent to
// us, and its exit code is reported as a shell would.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/environment.h"

namespace preserve {

// Exit codes of a launcher beside the child's own, as timeout(1) and env(1) have them.
inline constexpr int kLauncherFailed = 125;
inline constexpr int kLauncherInterrupted = 130;

struct ChildResult {
  int exit_code = 0;         // as a shell says it: 128 + signal when killed
  bool interrupted = false;  // SIGINT reached us while it ran
  bool started = true;       // false: exec failed and exit_code is 126 or 127
  std::string error;         // then why

  int result() const { return interrupted ? kLauncherInterrupted : exit_code; }
};

// The file that would run, as execvp finds it, or the code (126, 127) and a reason.
struct Program {
  std::string path;
  int code = 0;
  std::string error;
};
Program find_program(const std::string& command);
// Says that `command` did not start, and why; returns `code`.
int cannot_run(const std::string& command, const std::string& why, int code, Console& console);

// `environment`: variables to set in the child only.
ChildResult run_child(const std::vector<std::string>& command, const Variables& environment);

// A library of ours that is loaded into the child: lib/preserve next to the folder of the running
// tool. internal_error when it is missing.
std::filesystem::path child_library(const std::string& file_name);
// Variables by which `library` is loaded into the child before all others; what was preloaded
// already stays. Programs with AddressSanitizer would not start with it unless told.
Variables preloading(const std::filesystem::path& library);
// How libraries get into a program, by its file.
enum class Loading {
  ours,          // by the loader of the C library that ours need, or not known (a script)
  none,          // linked statically
  other_library  // musl's loader, which ends every program that it cannot preload a library into
};
Loading loading_of(const std::string& program);

// What MPI launchers say of this process in its environment; empty: no launcher did.
std::string launched_rank();
std::string launched_ranks();  // how many there are

// While it exists SIGINT, SIGTERM and SIGHUP end the process at once with 128 + signal, wherever it
// is: `file` is removed and `text` printed. For work whose only result is `file`. One at a time.
class EndOnSignal {
 public:
  EndOnSignal(std::string file, std::string text);

 private:
  StopHandlers handlers_;
};

}  // namespace preserve
