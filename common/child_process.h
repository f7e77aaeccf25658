// SPDX-License-Identifier: Apache-2.0
// One tool running another: stages talk through files, so what the child says is kept for the case
// that it fails, its end is told exactly, and it never outlives us.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace preserve {

// While it exists SIGINT, SIGTERM and SIGHUP are stored here instead of ending the process. One at
// a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  static int received();  // number of the last one, 0 for none
};

struct ChildRun {
  int exit_code = 0;     // 128 + signal when it was killed
  std::string out, err;  // the last 64 KiB of each
};

// Runs argv[0], a path, with empty input, until it ends. A stop signal of ours becomes SIGTERM for
// the child, which also gets one when we die. `waiting` is called about once a second meanwhile,
// `heard` with every piece of its standard error as it comes.
ChildRun run_child_quietly(const std::vector<std::string>& argv,
                           const std::function<void()>& waiting = {},
                           const std::function<void(std::string_view)>& heard = {});

// The tool of this name beside the running one. input_error when it is not there.
std::filesystem::path sibling_tool(const std::string& name);

// What a failed child said last, without its own "preserve-x: error: "; one line.
std::string last_error(const ChildRun& run);

}  // namespace preserve
