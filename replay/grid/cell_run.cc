// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/cell_run.h"

#include <fmt/chrono.h>

#include <cmath>
#include <ctime>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReasonBytes = 500;

// Our own signal ended the child, so its end does not count for the cell.
bool stopped() {
  return StopSignals::received() != 0;
}

void give_up(GridCell& cell, const char* tool, const ChildRun& run) {
  const std::string reason = printable(last_error(run), kReasonBytes);
  if (run.exit_code == kExitNotApplicable) {
    cell.status = CellStatus::not_available;
    cell.reason = reason;
    return;
  }
  cell.status = CellStatus::failed;
  cell.reason = fmt::format("{}: {}", tool,
                            reason.empty() ? fmt::format("ended with {}", run.exit_code) : reason);
}

}  // namespace

std::vector<std::string> tune_command(const CellSettings& settings, const CellKey& key,
                                      const fs::path& model, const fs::path& folder) {
  std::vector<std::string> words{settings.tune.string(),
                                 "--model",
                                 model.string(),
                                 "--tp",
                                 std::to_string(key.ranks),
                                 "--batch",
                                 std::to_string(key.batch),
                                 "--context",
                                 std::to_string(key.context),
                                 "--dtype",
                                 key.dtype,
                                 "--device",
                                 settings.device_file.string(),
                                 "--trace-out",
                                 (folder / "trace.db").string(),
                                 "-o",
                                 (folder / "schedule.json").string(),
                                 "-f",
                                 "--color",
                                 "never"};
  if (!settings.link.empty()) {
    words.emplace_back("--link");
    words.push_back(settings.link);
  }
  if (settings.measure_time.empty()) return words;
  for (const char* word : {"--measure", "--measure-time"}) words.emplace_back(word);
  words.push_back(settings.measure_time);
  if (!settings.replay_words.empty()) words.emplace_back("--");
  words.insert(words.end(), settings.replay_words.begin(), settings.replay_words.end());
  return words;
}

std::vector<std::string> replay_command(const CellSettings& settings, const fs::path& folder) {
  std::vector<std::string> words{settings.replay.string(),
                                 (folder / "trace.db").string(),
                                 (folder / "schedule.json").string(),
                                 "-o",
                                 (folder / "replay.db").string(),
                                 "-f",
                                 "--device-file",
                                 settings.device_file.string(),
                                 "--time-limit",
                                 settings.time_limit,
                                 "--color",
                                 "never"};
  words.insert(words.end(), settings.replay_words.begin(), settings.replay_words.end());
  return words;
}

void take_results(const Schedule& schedule, const ReplayResult& replay, GridCell& cell) {
  const ArmResult* prefetch = replay.find_arm(kPrefetchArm);
  if (prefetch == nullptr) throw input_error("the replay has no arm {}", kPrefetchArm);
  cell.plan_verdict = to_string(schedule.plan.verdict);
  cell.strategy = to_string(schedule.plan.strategy);
  cell.predicted_step_ns = schedule.plan.prefetch_step_ns;
  cell.predicted_speedup = schedule.plan.speedup;
  cell.all_hot_step_ns = schedule.all_hot_step_ns;
  cell.window_limited_step_ns = schedule.window_limited_step_ns;
  cell.cache_limited_step_ns = schedule.cache_limited_step_ns;
  cell.modelled_step_ns = replay.recorded_step_ns;
  cell.planned_bytes = replay.planned_bytes;
  cell.issued_bytes = std::llround(prefetch->issued_bytes);
  cell.speedup = prefetch->speedup;
  cell.verdict = replay.verdict;
  cell.pairs = prefetch->pairs;
  cell.busy = replay.busy;
  cell.collective = replay.collective;
  cell.fidelity = replay.fidelity;
  cell.predicted_saved_ns = replay.predicted_saved_ns;
  cell.realised_saved_ns = replay.realised_saved_ns;
  cell.fused = replay.overlap_ratio;
  cell.arms.clear();
  for (const ArmResult& arm : replay.arms) {
    if (!arm.step_ns) continue;
    cell.arms.push_back({arm.name, std::llround(arm.step_ns->estimate), arm.speedup});
  }
  decide_choice(cell);
  cell.status = CellStatus::done;
  cell.reason.clear();
}

CellRun run_cell(const CellSettings& settings, const GridCell& cell, const fs::path& model,
                 const fs::path& folder, const std::function<void()>& waiting,
                 const std::function<void(std::string_view)>& printed) {
  CellRun result{.cell = {.id = cell.id, .key = cell.key}};
  const int64_t start_ns = monotonic_ns();
  const auto finish = [&] {
    result.stopped = stopped();
    result.cell.dur_ns = monotonic_ns() - start_ns;
    result.cell.finished_at = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    return result;
  };
  const ChildRun tune =
      run_child_quietly(tune_command(settings, cell.key, model, folder), waiting, printed);
  if (tune.exit_code != kExitDone) {
    give_up(result.cell, "preserve-tune", tune);
    return finish();
  }
  const ChildRun replay = run_child_quietly(replay_command(settings, folder), waiting, printed);
  if (replay.exit_code != kExitDone) {
    give_up(result.cell, kReplayTool, replay);
    return finish();
  }
  try {
    const ReplayResult measured = read_result(TraceDb::open(folder / "replay.db"));
    take_results(load_schedule(folder / "schedule.json"), measured, result.cell);
    result.where = MeasuredOn{measured.device_name, measured.executor};
  } catch (const Error& error) {
    result.cell.status = CellStatus::failed;
    result.cell.reason = printable(error.what(), kReasonBytes);
  }
  return finish();
}

}  // namespace preserve
