// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include "common/child_process.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

Run run_program(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                const std::filesystem::path& directory, double timeout_s) {
  ChildSetup setup;
  setup.argv = argv;
  setup.environment = environment;
  setup.folder = directory;
  setup.pipe_output = true;
  setup.own_group = true;  // a time-out reaches grandchildren (mpirun's ranks) too
  Run run;
  ChildWatch watch;
  watch.out = [&](std::string_view piece) { run.out += piece; };
  watch.err = [&](std::string_view piece) { run.err += piece; };
  watch.time_limit_ns = static_cast<int64_t>(timeout_s * 1e9);
  watch.limit_signal = SIGKILL;
  const ChildEnd end = Child(setup).wait(watch);
  if (end.timed_out) run.err += "\n[killed by the test: time-out]\n";
  run.exit_code = end.exit_code;
  return run;
}

}  // namespace preserve::test
