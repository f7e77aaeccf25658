// SPDX-License-Identifier: Apache-2.0
// Runs the user's command with the plan in its environment, and says what became of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apply/plan_file.h"
#include "common/cli.h"

namespace preserve::apply {

struct LaunchOptions {
  std::string schedule, output = "apply.db";
  bool force = false;
  Mode mode = Mode::guard;
  std::optional<Via> via{};
  std::optional<int64_t> link_latency_ns;  // must be the schedule's
  std::vector<std::string> command;
};

// The command's own exit code, as preserve-profile gives it.
int apply_command(const LaunchOptions& options, Console& console);

}  // namespace preserve::apply
