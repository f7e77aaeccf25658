// SPDX-License-Identifier: Apache-2.0
// What all preserve-* tools share on the command line: the common flags, the streams (results on
// stdout, everything else on stderr), colour, progress, exit codes, and the one place that catches.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace preserve {

// Exit codes of every tool. preserve-profile adds the child's own.
enum ExitCode : int {
  kExitDone = 0,
  kExitCheckFailed = 1,
  kExitBadInput = 2,
  kExitInternal = 3,
  kExitNotApplicable = 4,  // so that a tool that runs many cases can tell it from a failure
};

// Messages to the person at the terminal. All on stderr, none with -q except errors.
class Console {
 public:
  enum class Color { automatic, always, never };

  void configure(bool quiet, int verbosity, Color color);
  int verbosity() const { return verbosity_; }

  void info(std::string_view text);     // progress in words; not with -q
  void detail(std::string_view text);   // only with -v
  void warn(std::string_view text);     // "warning: ..."; not with -q
  void error(std::string_view text);    // "preserve-x: error: ..." always
  void next(std::string_view command);  // last line: "next: preserve-tune trace.db"
  // done and total in any unit. On a terminal a bar, at most 10 Hz, cleared by clear_progress();
  // else a line every few seconds.
  void progress(std::string_view phase, double done, double total);
  void clear_progress();
  void set_tool(std::string name) { tool_ = std::move(name); }

 private:
  void line(std::string_view prefix, const char* ansi, std::string_view text);
  void progress_line(std::string_view phase, double part, int64_t now_ns);

  std::string tool_;
  bool quiet_ = false;
  int verbosity_ = 0;
  bool color_ = false;
  bool progress_shown_ = false;
  int64_t progress_last_ns_ = 0;
};

// usage_error when `output` is standard output: `what` ("a trace") is a database, which needs a
// file.
void require_file(std::string_view output, std::string_view what);

struct ToolInfo {
  std::string name;        // "preserve-tune"
  std::string purpose;     // one line
  std::string footer;      // examples, files, exit codes; shown under the options
  std::string versions{};  // second line of --version, "trace schema 1, schedule 1.0"
  std::string usage{};     // what follows the name in "Usage:", where CLI11's own is wrong
};

// Parses, then runs `body` and maps Error to the exit code. `define` adds the tool's own options to
// the app; -h, --version, -q, -v and --color are defined already. No arguments at all: short usage
// on stderr, exit 2, unless `allow_no_arguments`.
int run_tool(int argc, char** argv, const ToolInfo& info,
             const std::function<void(CLI::App&)>& define, const std::function<int(Console&)>& body,
             bool allow_no_arguments = false);

}  // namespace preserve
