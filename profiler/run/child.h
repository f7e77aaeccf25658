// SPDX-License-Identifier: Apache-2.0
// Runs the profiled command as a child: it has our streams, gets the signals sent to us, and its
// exit code is reported as a shell would.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace preserve {

struct ChildResult {
  int exit_code = 0;         // as a shell says it: 128 + signal when killed
  bool interrupted = false;  // SIGINT reached us while it ran
  bool started = true;       // false: exec failed and exit_code is 126 or 127
  std::string error;         // then why
};

// The file that would run, as execvp finds it, or the code (126, 127) and a reason.
struct Program {
  std::string path;
  int code = 0;
  std::string error;
};
Program find_program(const std::string& command);

// `environment`: variables to set in the child only.
ChildResult run_child(const std::vector<std::string>& command,
                      const std::vector<std::pair<std::string, std::string>>& environment);

// While it exists SIGINT, SIGTERM and SIGHUP end the process at once with 128 + signal, wherever it
// is: `file` is removed and `text` printed. For work whose only result is `file`. One at a time.
class EndOnSignal {
 public:
  EndOnSignal(std::string file, std::string text);
  ~EndOnSignal();
  EndOnSignal(const EndOnSignal&) = delete;
  EndOnSignal& operator=(const EndOnSignal&) = delete;
};

}  // namespace preserve
