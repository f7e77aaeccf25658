// SPDX-License-Identifier: Apache-2.0
// preserve-report: trace.db, schedule.json and replay.db -> report.html, .json, .md, .csv.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/cli.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "common/fail_if.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "reports/csv.h"
#include "reports/explore/report.h"
#include "reports/grid/report.h"
#include "reports/model/earlier.h"
#include "reports/model/inputs.h"
#include "reports/model/report.h"
#include "reports/render.h"

namespace preserve::report {
namespace {

constexpr const char* kFooter =
    R"(Inputs are recognised by content: trace.db, and any number of schedule.json, replay.db and apply.db. Each
replay is matched to its schedule, each schedule to its trace, by SHA-256. Of several recordings the
last one named is reported and compared with each of the others. A grid.db of preserve-replay --grid
or an explore.db of preserve-explore has a report of its own; of several, the last is compared with the
others too.

report.csv holds the operators; report.TABLE.csv another table: gains, verdicts, arms, samples, why,
windows, prefetches, ranks, collectives; of a comparison changes, operator_changes, window_changes.
grid.csv and explore.csv hold the cells, grid.changes.csv and explore.changes.csv their comparison.

Examples:
  preserve-report trace.db                                   what was recorded, as report.html
  preserve-report trace.db schedule.json replay.db -o report.html -o report.json
  preserve-report trace.db schedule.json replay.db schedule-link.json replay-link.db -o report.html
  preserve-report trace.db schedule.json replay.db --format md -o - --fail-if slower=5%
  preserve-report trace.db --baseline before.json -o report.html
  preserve-report before.db after.db schedule-after.json replay-after.db -o report.html
  preserve-report grid.db -o grid.html -o grid.csv           heat maps of a grid
  preserve-report grid-before.db grid-after.db -o grid.html  cell by cell

Exit codes:
  0 done; 1 a --fail-if condition holds; 2 wrong usage or input; 3 internal error)";

struct Options {
  std::vector<std::string> inputs, outputs, fail_if;
  std::string baseline;
  std::optional<Format> format;  // of all outputs
  bool force = false, verdict_only = false;
};

struct Target {
  OutputFile file;
  Format format;
  std::string_view table;  // of format csv
};

// "arms" of report.arms.csv, when it is the name of a table; else the operators.
std::string_view table_of(const std::filesystem::path& path) {
  const std::string inner = path.stem().extension().string();
  for (const std::string_view table : csv_tables()) {
    if (inner.size() > 1 && std::string_view(inner).substr(1) == table) return table;
  }
  return kOperatorsCsv;
}

std::vector<Target> open_outputs(const Options& options) {
  std::vector<std::string> names = options.outputs;
  if (names.empty() && !options.verdict_only) names.emplace_back("report.html");
  std::vector<Target> targets;
  size_t to_stdout = 0;
  for (const std::string& name : names) {
    refuse_input_as_output(name, options.inputs);
    if (!options.baseline.empty()) refuse_input_as_output(name, {options.baseline});
    if (name == "-" && !options.format) throw usage_error("-o - needs --format");
    if (name == "-" && ++to_stdout > 1) throw usage_error("-o - is given twice");
    targets.push_back({OutputFile(name, options.force),
                       options.format ? *options.format : format_of(name), table_of(name)});
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (std::filesystem::absolute(targets[i].file.path()).lexically_normal() ==
          std::filesystem::absolute(targets[j].file.path()).lexically_normal()) {
        throw usage_error("{} is given twice as output", targets[i].file.path().string());
      }
    }
  }
  return targets;
}

// A condition holds when the measurement says so with its whole interval, so that noise fails
// nothing.
bool any_condition_holds(const Report& report, const std::vector<double>& limits,
                         Console& console) {
  bool holds = false;
  bool measured = false;
  for (const Scenario& scenario : report.scenarios) {
    if (!scenario.measured || !scenario.measured->speedup) continue;
    measured = true;
    for (const double limit : limits) {
      if (!surely_slower(*scenario.measured->speedup, limit)) continue;
      console.error(
          fmt::format("check failed: slower than {:g} %: {}", limit * 100, scenario.sentence));
      holds = true;
    }
  }
  if (!limits.empty() && !measured) {
    throw usage_error(
        "--fail-if needs a measurement: add a replay.db in which at least {} pairs of a baseline "
        "and a prefetch sample were counted",
        kFewestPairs);
  }
  return holds;
}

// Of the first page; false: there is none.
bool say_open(const std::vector<Target>& targets, Console& console) {
  for (const Target& target : targets) {
    if (target.format != Format::html || target.file.is_stdout()) continue;
    console.next(fmt::format("xdg-open {}", shell_word(target.file.path().string())));
    return true;
  }
  return false;
}

void say_next(const Report& report, const std::vector<Target>& targets, const Options& options,
              Console& console) {
  const std::string trace = report.inputs.front().path.string();
  if (report.scenarios.empty() && report.step)
    return console.next(next_command(TraceDb::open(trace), trace));
  for (const Scenario& scenario : report.scenarios) {
    if (!scenario.measured && scenario.plan.verdict == "prefetch") {
      return console.next(fmt::format("preserve-replay {} {} -o replay.db", shell_word(trace),
                                      shell_word(scenario.schedule_path)));
    }
  }
  if (say_open(targets, console)) return;
  if (options.outputs.empty()) console.next("preserve-report INPUT... -o report.html");
}

// Holds when a plan of the grid, chosen or not, is slower with its whole interval.
bool any_cell_fails(const GridReport& report, const std::vector<double>& limits, Console& console) {
  bool holds = false;
  int64_t measured = 0;
  for (const GridCell& cell : report.cells) {
    if (!cell.sound()) continue;
    ++measured;
    for (const double limit : limits) {
      if (*cell.speedup->high >= 1 - limit) continue;
      console.error(fmt::format("check failed: slower than {:g} %: {}, {}", limit * 100,
                                name_of(cell.key), ratio_text(cell.speedup)));
      holds = true;
    }
  }
  if (!limits.empty() && measured == 0) {
    throw usage_error(
        "--fail-if needs a measurement: no cell of the grid has one with enough pairs");
  }
  return holds;
}

std::string render_target(const Report& report, const Target& target) {
  return target.format == Format::csv ? to_csv(report, target.table)
                                      : render(report, target.format);
}
// Of a grid or an exploration.
template <typename CellReport>
std::string render_target(const CellReport& report, const Target& target) {
  return target.format == Format::csv && target.table == kChangesCsv
             ? changes_csv(report)
             : render(report, target.format);
}

template <typename AnyReport>
void write_all(const AnyReport& report, std::vector<Target>& targets, Console& console) {
  for (Target& target : targets) {
    target.file.write(render_target(report, target));
    if (!target.file.is_stdout())
      console.info(fmt::format("wrote {}", target.file.path().string()));
  }
}

bool stdout_taken(const std::vector<Target>& targets) {
  return std::ranges::any_of(targets, [](const Target& target) { return target.file.is_stdout(); });
}

// Of a grid or an exploration; `fails`: does a condition hold?
template <typename CellReport, typename Comparison, typename Fails>
int report_cells(const std::vector<InputFile>& inputs, CellReport (*build)(const InputFile&),
                 Comparison (*compare)(const CellReport&, const CellReport&), Fails&& fails,
                 std::vector<Target> targets, Console& console) {
  CellReport report = build(inputs.back());
  for (size_t i = 0; i + 1 < inputs.size(); ++i) {
    report.earlier.push_back(compare(build(inputs[i]), report));
  }
  for (const std::string& warning : report.warnings) console.warn(warning);
  const bool failed = fails(report);
  write_all(report, targets, console);
  if (!stdout_taken(targets)) {
    fmt::print("{}\n", report.sentence);
    for (const Comparison& earlier : report.earlier) fmt::print("{}\n", earlier.sentence);
  }
  say_open(targets, console);
  return failed ? kExitCheckFailed : kExitDone;
}

// --baseline as what it is: a recording, grid or exploration goes before the others.
bool is_report_json(const std::filesystem::path& path) {
  return recognise(path) == InputKind::schedule;  // any JSON; its reader says what is wrong with it
}

void warn_of_recording(const InputSet& inputs, const Report& report, Console& console) {
  report_quality(TraceDb::open(inputs.trace.path), console);
  for (const Loss& loss : report.recording.losses)
    console.warn(fmt::format("lost: {}", describe(loss)));
}

void refuse_json_baseline(bool baseline_is_json, const char* kind) {
  if (baseline_is_json) throw usage_error("--baseline: expected another {}", kind);
}

int report(const Options& options, Console& console) {
  std::vector<double> limits;
  for (const std::string& text : options.fail_if) limits.push_back(parse_slower(text));
  std::vector<std::filesystem::path> inputs(options.inputs.begin(), options.inputs.end());
  const bool baseline_is_json = !options.baseline.empty() && is_report_json(options.baseline);
  if (!options.baseline.empty() && !baseline_is_json) {
    inputs.insert(inputs.begin(), options.baseline);
  }
  if (const auto grids = all_of_kind(inputs, InputKind::grid); !grids.empty()) {
    refuse_json_baseline(baseline_is_json, "grid.db");
    const auto fails = [&](const GridReport& grid) {
      return any_cell_fails(grid, limits, console);
    };
    return report_cells(grids, build_grid_report, compare_grids, fails, open_outputs(options),
                        console);
  }
  if (const auto explored = all_of_kind(inputs, InputKind::explore); !explored.empty()) {
    refuse_json_baseline(baseline_is_json, "explore.db");
    if (!limits.empty()) {
      throw usage_error("--fail-if needs a measurement, {} has none",
                        explored.back().path.string());
    }
    return report_cells(
        explored, build_explore_report, compare_explorations,
        [](const ExploreReport&) { return false; }, open_outputs(options), console);
  }
  std::vector<Target> targets = open_outputs(options);
  const std::vector<InputSet> runs = read_runs(inputs);
  const InputSet& input_set = runs.back();
  Report report = build_report(input_set);
  for (size_t i = 0; i + 1 < runs.size(); ++i) {
    const Report earlier = build_report(runs[i]);
    warn_of_recording(runs[i], earlier, console);
    report.earlier.push_back(compare_with(earlier, report));
  }
  if (baseline_is_json) report.earlier.push_back(compare_with(options.baseline, report));
  warn_of_recording(input_set, report, console);
  for (const Warning& warning : report.warnings)
    console.warn(fmt::format("{}: {}", warning.source, warning.text));
  const bool failed = any_condition_holds(report, limits, console);
  write_all(report, targets, console);
  if (!stdout_taken(targets)) {
    for (const std::string& sentence : report.sentences) fmt::print("{}\n", sentence);
    for (const Earlier& run : report.earlier) fmt::print("{}\n", run.sentence);
  }
  say_next(report, targets, options, console);
  return failed ? kExitCheckFailed : kExitDone;
}

}  // namespace
}  // namespace preserve::report

int main(int argc, char** argv) {
  preserve::report::Options options;
  return preserve::run_tool(
      argc, argv,
      {"preserve-report", "Shows what was recorded, planned and measured.",
       preserve::report::kFooter, fmt::format("report {}", preserve::report::kReportVersion)},
      [&](CLI::App& app) {
        app.add_option("inputs", options.inputs,
                       "trace.db, schedule.json, replay.db, apply.db; or grid.db; or explore.db; "
                       "several of each make a comparison")
            ->required()
            ->type_name("INPUT...");
        app.add_option("-o,--output", options.outputs,
                       "File to write, repeatable; its suffix is the format; - is standard output")
            ->type_name("FILE")
            ->default_str("report.html")
            ->allow_extra_args(false);
        app.add_option("--format", options.format, "Format of all outputs, whatever their suffix")
            ->transform(preserve::as_choice(preserve::report::kFormats))
            ->type_name("FORMAT");
        app.add_flag("-f,--force", options.force, "Overwrite existing outputs");
        app.add_flag("--verdict", options.verdict_only,
                     "Only print the verdicts; write no file unless -o names one");
        app.add_option(
               "--baseline", options.baseline,
               "An earlier run: what changed since, by operator and window; its report.json, "
               "or as if the file came before all inputs")
            ->type_name("FILE")
            ->allow_extra_args(false);
        app.add_option("--fail-if", options.fail_if,
                       "slower=N%: exit 1 when a measured schedule is slower than the baseline by "
                       "more than N % with its whole confidence interval; repeatable")
            ->type_name("CONDITION")
            ->allow_extra_args(false);
      },
      [&](preserve::Console& console) { return preserve::report::report(options, console); });
}
