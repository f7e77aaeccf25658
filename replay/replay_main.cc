// SPDX-License-Identifier: Apache-2.0
// preserve-replay: trace.db + schedule.json -> replay.db, measured on this machine.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/cli.h"
#include "db/trace_db.h"
#include "planner/schedule/schedule.h"
#include "replay/grid/main.h"
#include "replay/replay_command.h"

int main(int argc, char** argv) {
  using namespace preserve;
  if (wants_grid(argc, argv)) return grid_main(argc, argv);
  ReplayArguments arguments;
  arguments.words.assign(argv + 1, argv + argc);
  const ToolInfo info{
      .name = "preserve-replay",
      .purpose = "Measure a schedule: rebuild the recorded step and run it with and without.",
      .footer =
          "Examples:\n"
          "  preserve-replay trace.db schedule.json -o replay.db\n"
          "  preserve-replay trace.db schedule.json -o replay.db --candidates --time-limit 60s\n"
          "  preserve-replay trace.db schedule.json -o replay.db --fail-if slower=1%\n"
          "  preserve-replay trace.db schedule.json -o replay.db --device cuda:0 --collective "
          "stand-in\n"
          "  mpirun -n 2 preserve-replay trace.db schedule.json -o replay.db\n"
          "  preserve-replay --grid --device-file device.json   many generated steps; see --grid "
          "--help\n"
          "\n"
          "Exit codes: 0 done, 1 --fail-if came true, 2 usage or bad input, 3 internal "
          "error,\n130 stopped by Ctrl-C.",
      .versions =
          fmt::format("trace schema {}, schedule {}", kTraceSchemaVersion, kScheduleVersion)};
  return run_tool(
      argc, argv, info, [&](CLI::App& app) { define_replay(app, arguments); },
      [&](Console& console) {
        return run_replay(console, arguments, {count_cuda_devices, open_cuda_device, run_ranks});
      });
}
