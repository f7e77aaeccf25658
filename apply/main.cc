// SPDX-License-Identifier: Apache-2.0
// preserve-apply: a schedule.json in the running program, and an apply.db of what came of it.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "apply/run/launch.h"
#include "common/cli.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "planner/schedule/schedule.h"

namespace {

using namespace preserve;

constexpr const char* kFooter = R"(Examples:
  preserve-apply schedule.json -- mpirun -n 2 ./server
  mpirun -n 2 preserve-apply schedule.json -- ./server
  srun -n 2 preserve-apply schedule.json -- ./server
  preserve-apply schedule-link.json --link 200us -- mpirun -n 2 ./server
  preserve-apply --dry-run schedule.json -- mpirun -n 2 ./server

Prefetches what the schedule says while the program waits in its collectives (MPI, Open MPI), through
LD_PRELOAD; the program, its results and its collectives stay as they are. Steps with and without the plan
alternate, and the plan is turned off for the rest of the run unless the program is measurably faster with
it. At the end a table says what every rank did; apply.db holds it for preserve-report.

A schedule of a GPU puts its prefetches into the program's CUDA graphs as they are instantiated, through
CUDA_INJECTION64_PATH and CUPTI; it needs the trace that it was made from, and a driver of CUDA 12.4.

On several hosts the environment must reach the ranks: run preserve-apply behind mpirun or srun.

Exit codes: those of the command, 128+N when signal N killed it, 130 after Ctrl-C; 2 bad usage or a
schedule that cannot be applied; 125 preserve-apply failed; 126 the command cannot be executed; 127 it was
not found.)";

// A word that is none of the ways there are, where a user may well expect it to be one.
std::string refuse_missing_way(std::string& way) {
  if (way != "torch" && way != "stream") return {};
  return "there is no '" + way + "': CUDA programs are reached by inject alone";
}

struct Arguments {
  apply::LaunchOptions launch;
  bool dry_run = false, no_guard = false, original = false, compare = false;
};

void define(CLI::App& app, Arguments& given) {
  apply::LaunchOptions& launch = given.launch;
  app.add_option("schedule", launch.schedule, "What to prefetch, from preserve-tune")
      ->type_name("SCHEDULE.JSON")
      ->required();
  app.add_option("-o,--output", launch.output, "What was measured in the program")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("-f,--force", launch.force, "Overwrite an existing output");
  app.add_option("--via", launch.via,
                 "How windows are filled: from the MPI library's progress engine, between looks at "
                 "a non-blocking call in place of the program's, by a thread on a spare core; by "
                 "default what is measured at the start, or the spare core where the schedule's "
                 "method is of one. A schedule of a GPU is always applied by inject: nodes in the "
                 "program's CUDA graphs")
      ->transform(as_choice({apply::Via::progress, apply::Via::convert, apply::Via::spare,
                             apply::Via::measured, apply::Via::inject}))
      ->transform(CLI::Validator(refuse_missing_way, ""));
  app.add_option("--link", launch.link_latency_ns,
                 "Stand-in for a network link: adds this to every collective, with and without the "
                 "plan; the schedule must be planned for it")
      ->transform(as_duration_ns(0, 1'000'000'000));
  CLI::Option* dry =
      app.add_flag("--dry-run", given.dry_run,
                   "Fetch nothing: compare the original with windows that stay empty");
  CLI::Option* always =
      app.add_flag("--no-guard", given.no_guard, "Keep the plan on whatever the measurement says");
  CLI::Option* original =
      app.add_flag("--original", given.original, "Fetch nothing and open no window: times only");
  CLI::Option* compare = app.add_flag(
      "--compare", given.compare,
      "Decide nothing: original and applied steps alternate to the end, which measures "
      "the plan most precisely");
  dry->excludes(always)->excludes(original)->excludes(compare);
  always->excludes(original)->excludes(compare);
  original->excludes(compare);
}

int run(Arguments& given, std::vector<std::string> command, Console& console) {
  if (command.empty()) {
    throw usage_error("no command given after --\nTry 'preserve-apply --help'.");
  }
  given.launch.command = std::move(command);
  if (given.dry_run) given.launch.mode = apply::Mode::dry_run;
  if (given.no_guard) given.launch.mode = apply::Mode::always;
  if (given.original) given.launch.mode = apply::Mode::original;
  if (given.compare) given.launch.mode = apply::Mode::compare;
  return apply::apply_command(given.launch, console);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments given;
  // Cut off here: what follows belongs to the command.
  char** const end = std::find(argv, argv + argc, std::string_view("--"));
  const std::vector<std::string> command(end == argv + argc ? end : end + 1, argv + argc);
  const ToolInfo info{"preserve-apply",
                      "Runs a program with a prefetch schedule, for as long as that pays.", kFooter,
                      fmt::format("schedule {}", kScheduleVersion),
                      "[OPTIONS] SCHEDULE.JSON -- COMMAND [ARGUMENT...]"};
  return run_tool(
      static_cast<int>(end - argv), argv, info, [&](CLI::App& app) { define(app, given); },
      [&](Console& console) { return run(given, command, console); });
}
