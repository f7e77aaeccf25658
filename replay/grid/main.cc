// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/main.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "db/grid/summary.h"
#include "planner/schedule/device.h"
#include "replay/grid/cell_run.h"
#include "replay/grid/eta.h"
#include "replay/grid/file.h"
#include "replay/grid/models.h"
#include "replay/grid/selection.h"
#include "replay/grid/text.h"
#include "replay/ranks/cells.h"
#include "replay/ranks/launch.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr size_t kAlikeFailures = 5;

struct Arguments {
  bool grid = true;
  std::vector<std::string> selection;
  std::string device_file, models, keep;
  std::string output = "grid.db";
  bool force = false, retry_failed = false, oversubscribe = false;
  std::string device = "auto", collective;
  bool allow_device_mismatch = false, closed_loop = false;
  std::string time_limit = "5s", measure_time = "20s", link;
};

void define(CLI::App& app, Arguments& arguments) {
  app.add_flag("--grid", arguments.grid)->group("");
  app.add_option("selection", arguments.selection,
                 "What to measure: models=, tp=, batch=, context=, dtype=, each with values "
                 "separated by commas [the paper's whole grid]")
      ->type_name("KEY=VALUES...");
  app.add_option("--device-file", arguments.device_file,
                 "What the hardware can do (device.json), with arithmetic rates and the times of "
                 "collectives; or a name from examples/devices")
      ->transform(as_shipped_file("devices"))
      ->type_name("FILE|NAME");
  app.add_option("-o,--output", arguments.output,
                 "Where to write; an existing file of the same command is resumed")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("-f,--force", arguments.force, "Replace an existing output");
  app.add_flag("--retry-failed", arguments.retry_failed, "Run the cells again that failed");
  app.add_option("--models", arguments.models,
                 "Folder of model configurations [examples/models next to the tools]")
      ->type_name("FOLDER");
  app.add_option("--keep", arguments.keep,
                 "Keep trace, schedule and replay of every cell in this folder")
      ->type_name("FOLDER");
  app.add_option("--device", arguments.device,
                 "Where to run: cpu, cuda:N, or auto: what the device file describes")
      ->capture_default_str();
  app.add_option("--collective", arguments.collective,
                 "On GPUs: nccl, or stand-in: kernels that last as long, on one GPU [nccl where "
                 "there are as many GPUs as ranks]")
      ->check(CLI::IsMember({"nccl", "stand-in"}));
  app.add_flag("--allow-device-mismatch", arguments.allow_device_mismatch,
               "Run on another kind of GPU than the device file describes");
  app.add_option("--time-limit", arguments.time_limit, "Measure each cell at most this long")
      ->capture_default_str();
  app.add_flag("--closed-loop", arguments.closed_loop,
               "Let preserve-tune --measure find each cell's plan by replaying candidates first");
  app.add_option("--measure-time", arguments.measure_time,
                 "Of --closed-loop, for each cell, before it is measured")
      ->capture_default_str();
  app.add_option("--link", arguments.link,
                 "Latency of a stand-in for a network link, as 200us, on top of each collective");
  app.add_flag("--oversubscribe", arguments.oversubscribe,
               "Run more ranks than cores: shows that it works, measures nothing");
}

void check(const Arguments& arguments) {
  if (arguments.device_file.empty()) {
    throw usage_error(
        "--device-file is missing: run preserve-calibrate -o device.json on this machine, or take "
        "one of examples/devices");
  }
  require_file(arguments.output, "grid.db");
  refuse_input_as_output(arguments.output, {arguments.device_file});
  if (parse_duration_ns(arguments.time_limit) == 0) {
    throw usage_error("--time-limit must be longer than 0");
  }
  if (parse_duration_ns(arguments.measure_time) == 0) {
    throw usage_error("--measure-time must be longer than 0");
  }
  if (!arguments.link.empty()) parse_duration_ns(arguments.link);
  if (find_launcher()) {
    throw usage_error("--grid starts the ranks of each cell by itself: run it without a launcher");
  }
  std::error_code error;
  if (!arguments.keep.empty() && !fs::is_directory(arguments.keep, error)) {
    throw usage_error("--keep {}: is not a folder", arguments.keep);
  }
}

CellSettings settings_of(const Arguments& arguments) {
  CellSettings settings;
  settings.tune = sibling_tool("preserve-tune");
  settings.replay = sibling_tool("preserve-replay");
  settings.device_file = arguments.device_file;
  settings.time_limit = arguments.time_limit;
  settings.link = arguments.link;
  if (arguments.closed_loop) settings.measure_time = arguments.measure_time;
  std::vector<std::string>& words = settings.replay_words;
  if (arguments.device != "auto") words.insert(words.end(), {"--device", arguments.device});
  if (!arguments.collective.empty()) {
    words.insert(words.end(), {"--collective", arguments.collective});
  }
  if (arguments.allow_device_mismatch) words.emplace_back("--allow-device-mismatch");
  if (arguments.oversubscribe) words.emplace_back("--oversubscribe");
  return settings;
}

SweepIdentity identity_of(const Arguments& arguments, const DeviceModel& device,
                          const std::vector<GridModel>& models, const std::string& selection,
                          const CellSettings& settings) {
  std::vector<std::string> digests;
  digests.reserve(models.size());
  for (const GridModel& model : models) digests.push_back(model.name + "=" + model.sha256);
  const std::string closed_loop = settings.measure_time.empty()
                                      ? "no"
                                      : format_duration(parse_duration_ns(settings.measure_time));
  const int64_t limit_ns = parse_duration_ns(arguments.time_limit);
  const int64_t link_ns = arguments.link.empty() ? 0 : parse_duration_ns(arguments.link);
  return {{"tool_version", PRESERVE_VERSION},
          {"selection", selection},
          {"models", fmt::format("{}", fmt::join(digests, " "))},
          {"device_file", device.name},
          {"device_file_sha256", sha256_of_file(arguments.device_file)},
          {"device_file_source", device.source},
          {"time_limit", format_duration(limit_ns)},
          {"link_latency_ns", std::to_string(link_ns)},
          {"closed_loop", closed_loop},
          {"replay_options", fmt::format("{}", fmt::join(settings.replay_words, " "))}};
}

// "llama3-8b-fp16-tp4-batch8-context16384", safe as the name of a folder.
std::string folder_name(const CellKey& key) {
  std::string name = fmt::format("{}-{}-tp{}-batch{}-context{}", key.model, key.dtype, key.ranks,
                                 key.batch, key.context);
  for (char& c : name) {
    const bool safe = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.';
    if (!safe) c = '_';
  }
  return name;
}

class GridRun {
 public:
  GridRun(Console& console, const Arguments& arguments, CellSettings settings,
          const std::vector<GridModel>& models, GridFile& file, const GridWorkFolder& work)
      : console_(console),
        arguments_(arguments),
        settings_(std::move(settings)),
        models_(models),
        file_(file),
        work_(work) {}

  // False when a signal stopped it.
  bool run() {
    std::vector<GridCell> cells = file_.cells();
    // A run that is stopped early has the cells that the headline mean is over; the cells
    // keep their places in the file.
    std::stable_partition(cells.begin(), cells.end(),
                          [](const GridCell& cell) { return small_and_parallel(cell.key); });
    std::vector<CellRange> missing;
    for (const GridCell& cell : cells) {
      if (wanted(cell)) missing.push_back({cell.id, cell.id});
    }
    left_ = static_cast<int64_t>(missing.size());
    const CellWork<CellRun> work{.evaluate = [&](int64_t id) { return run_one(file_.cell(id)); },
                                 .record = [&](const CellRun& result) { record(result); },
                                 .stop = [] { return StopSignals::received() != 0; }};
    return run_cells(LoneRank(), missing, work);
  }

 private:
  bool wanted(const GridCell& cell) const {
    return cell.status == CellStatus::pending ||
           (arguments_.retry_failed && cell.status == CellStatus::failed);
  }

  int64_t all() const { return static_cast<int64_t>(file_.cells().size()); }
  std::string place() const { return fmt::format("[{}/{}]", all() - left_ + 1, all()); }

  std::optional<CellRun> run_one(const GridCell& cell) {
    if (StopSignals::received() != 0) return std::nullopt;
    const auto show = [&] {
      console_.progress(
          fmt::format("{} {}, {}", place(), printable(name_of(cell.key)), left_text(left_)),
          static_cast<double>(all() - left_), static_cast<double>(all()));
    };
    show();
    const fs::path folder =
        (arguments_.keep.empty() ? work_.path() / fmt::format("cell-{}", cell.id)
                                 : fs::path(arguments_.keep) / folder_name(cell.key));
    fs::create_directory(folder);
    const bool loud = console_.verbosity() > 0;
    CellRun result = loud ? run_cell(settings_, cell, model_of(cell), folder, {}, write_through)
                          : run_cell(settings_, cell, model_of(cell), folder, show);
    std::error_code ignored;  // left-overs go with the next run
    if (arguments_.keep.empty()) fs::remove_all(folder, ignored);
    if (result.stopped) return std::nullopt;
    return result;
  }

  void record(const CellRun& result) {
    file_.record(result);
    stop_when_nothing_works(result.cell);
    const GridCell& after = result.cell;
    const std::string text =
        fmt::format("{} {}; {}", place(), cell_line(after), format_duration(after.dur_ns));
    const std::string rest = left_ > 1 ? "; " + left_text(left_ - 1) : "";
    if (after.status == CellStatus::failed) {
      console_.warn(text + rest);
    } else {
      console_.info(text + rest);
    }
    --left_;
  }

  // A missing driver or launcher fails every replay alike: then the cells count as not run.
  void stop_when_nothing_works(const GridCell& cell) {
    if (cell.status != CellStatus::failed || cell.reason.rfind(kReplayTool, 0) != 0) {
      if (cell.status == CellStatus::done) alike_.clear();
      return;
    }
    if (!alike_.empty() && alike_.back().reason != cell.reason) alike_.clear();
    alike_.push_back(cell);
    if (alike_.size() < kAlikeFailures) return;
    for (const GridCell& failed : alike_) {
      file_.record({.cell = {.id = failed.id, .key = failed.key}});
    }
    throw input_error("{} cells in a row failed alike, so the rest would too: {}", alike_.size(),
                      cell.reason);
  }

  std::string left_text(int64_t cells) const {
    const auto dur_ns = remaining_ns(file_.cells(), cells);
    return dur_ns ? remaining_text(*dur_ns) + " left" : "time left not known yet";
  }

  const fs::path& model_of(const GridCell& cell) const {
    const auto found = std::ranges::find(models_, cell.key.model, &GridModel::name);
    if (found == models_.end()) throw internal_error("no model {}", cell.key.model);
    return found->path;
  }

  Console& console_;
  const Arguments& arguments_;
  CellSettings settings_;
  const std::vector<GridModel>& models_;
  GridFile& file_;
  const GridWorkFolder& work_;
  int64_t left_ = 0;
  std::vector<GridCell> alike_;  // the last cells, as long as their replays fail for one reason
};

int64_t count(const std::vector<GridCell>& cells, CellStatus status) {
  return std::ranges::count(cells, status, &GridCell::status);
}

void say_resumed(Console& console, const Arguments& arguments, const std::vector<GridCell>& cells) {
  const auto all = static_cast<int64_t>(cells.size());
  const int64_t failed = arguments.retry_failed ? count(cells, CellStatus::failed) : 0;
  console.info(
      fmt::format("resuming {}: {} of {} already measured{}", arguments.output,
                  all - count(cells, CellStatus::pending), count_of(all, "cell"),
                  failed > 0 ? fmt::format(", {} failed ones are run again", failed) : ""));
}

int finish(Console& console, const Arguments& arguments, const std::vector<GridCell>& cells) {
  fmt::print("{}\n{}", heat_map_text(cells), grid_summary_text(cells));
  console.next(fmt::format("preserve-report {} -o grid.html", shell_word(arguments.output)));
  const int64_t failed = count(cells, CellStatus::failed);
  if (failed > 0 && count(cells, CellStatus::done) == 0) {
    throw input_error("no cell could be measured; the reasons are above and in {}",
                      arguments.output);
  }
  if (failed > 0) {
    console.info(fmt::format("{} failed; with --retry-failed the same command runs them again",
                             count_of(failed, "cell")));
  }
  return kExitDone;
}

int run(Console& console, const Arguments& arguments) {
  check(arguments);
  const GridSelection selection = parse_selection(arguments.selection);
  const DeviceModel device = load_device(arguments.device_file);
  const std::vector<std::string> dtypes = dtypes_for(selection, device);
  const std::vector<GridModel> models = find_models(selection.models, arguments.models);
  std::vector<std::string> names;
  std::ranges::transform(models, std::back_inserter(names), &GridModel::name);
  const CellSettings settings = settings_of(arguments);
  const std::vector<GridCell> cells = cells_of(selection, names, dtypes);
  const SweepIdentity identity =
      identity_of(arguments, device, models, text_of(selection, dtypes), settings);

  const GridWorkFolder work(arguments.output);
  GridFile file(arguments.output, identity, cells, arguments.force);
  if (file.resumed()) say_resumed(console, arguments, file.cells());
  const StopSignals stop;
  if (!GridRun(console, arguments, settings, models, file, work).run()) {
    console.info(fmt::format("stopped; the same command resumes {}", arguments.output));
    return 128 + StopSignals::received();
  }
  return finish(console, arguments, file.cells());
}

}  // namespace

bool wants_grid(int argc, char** argv) {
  return argc > 1 && std::any_of(argv + 1, argv + argc, [](const char* word) {
           return std::string_view(word) == "--grid";
         });
}

int grid_main(int argc, char** argv) {
  Arguments arguments;
  const ToolInfo info{
      .name = "preserve-replay",
      .purpose = "Measure a grid of generated decode steps: plan and replay each, keep what pays.",
      .footer =
          "Each cell runs in processes of its own and is stored at once: after Ctrl-C or a crash "
          "the same\ncommand resumes. A plan whose measured interval is not above 1 is replaced by "
          "doing nothing.\n"
          "\n"
          "Examples:\n"
          "  preserve-calibrate --device cuda:0 --published examples/devices/h100-sxm.json -o "
          "device.json\n"
          "  preserve-replay --grid --device-file device.json -o grid.db\n"
          "  preserve-replay --grid models=llama3-8b,qwen2-7b tp=4,8 batch=1,8 context=2K,8K \\\n"
          "      dtype=fp16,fp8 --device-file device.json -o grid.db\n"
          "  preserve-report grid.db -o grid.html\n"
          "\n"
          "Exit codes: 0 done, 2 usage or bad input, 3 internal error, 130 stopped by Ctrl-C.",
      .versions = fmt::format("trace schema {}, schedule {}, device {}", kTraceSchemaVersion,
                              kScheduleVersion, kDeviceVersion),
      .usage = "--grid [KEY=VALUES...] --device-file FILE [OPTIONS]"};
  return run_tool(
      argc, argv, info, [&](CLI::App& app) { define(app, arguments); },
      [&](Console& console) { return run(console, arguments); });
}

}  // namespace preserve
