// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/cell_run.h"
#include "common/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <map>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/clock.h"
#include "common/error.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReasonBytes = 500;

std::optional<double> number(const TraceDb& db, const std::string& key) {
  const std::string text = db.meta(key);
  if (text.empty()) return std::nullopt;
  return std::strtod(text.c_str(), nullptr);
}

double needed(const TraceDb& db, const std::string& key) {
  if (const auto value = number(db, key)) return *value;
  throw input_error("{}: says nothing about {}", db.file(), key);
}

int64_t needed_ns(const TraceDb& db, const std::string& key) {
  return std::llround(needed(db, key));
}

std::optional<MeasuredRatio> speedup_of(const TraceDb& db, const std::string& arm) {
  const auto estimate = number(db, arm + "_speedup");
  if (!estimate) return std::nullopt;
  return MeasuredRatio{*estimate, number(db, arm + "_speedup_low"),
                       number(db, arm + "_speedup_high")};
}

// Both arms' samples of one pair were taken in one pass, so their ratio is free of drift.
std::optional<MeasuredRatio> ratio_of_arms(const TraceDb& db, const char* above,
                                           const char* below) {
  std::vector<double> ratios;
  Query pairs = db.query(
      "SELECT CAST(a.step_ns AS REAL) / b.step_ns FROM sample_counted a JOIN sample_counted b "
      "USING (pair) WHERE a.arm = ? AND b.arm = ? AND b.step_ns > 0",
      {std::string(above), std::string(below)});
  while (pairs.next()) ratios.push_back(pairs.real(0));
  if (ratios.empty()) return std::nullopt;
  const Interval interval = bootstrap_median(ratios);
  if (ratios.size() < kFewestPairs) return MeasuredRatio{interval.estimate, {}, {}};
  return MeasuredRatio{interval.estimate, interval.low, interval.high};
}

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, length};
}

// A signal of ours ended the child: then its end says nothing about the cell.
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
                                 "--seed",
                                 std::to_string(settings.seed),
                                 "--color",
                                 "never"};
  words.insert(words.end(), settings.replay_words.begin(), settings.replay_words.end());
  return words;
}

void take_results(const Schedule& schedule, const TraceDb& replay, GridCell& cell) {
  cell.plan_verdict = to_string(schedule.plan.verdict);
  cell.strategy = to_string(schedule.plan.strategy);
  cell.predicted_step_ns = schedule.plan.prefetch_step_ns;
  cell.predicted_speedup = schedule.plan.speedup;
  cell.all_hot_step_ns = schedule.all_hot_step_ns;
  cell.window_limited_step_ns = schedule.window_limited_step_ns;
  cell.cache_limited_step_ns = schedule.cache_limited_step_ns;
  cell.modelled_step_ns = needed_ns(replay, "recorded_step_ns");
  cell.planned_bytes = std::llround(number(replay, "planned_bytes_per_step").value_or(0));
  cell.issued_bytes = std::llround(number(replay, "issued_bytes_per_step").value_or(0));
  cell.speedup = speedup_of(replay, "prefetch");
  cell.verdict = replay.meta("verdict");
  cell.pairs = std::llround(needed(replay, "pairs_counted"));
  cell.busy = replay.meta("interrupted_kept") == "1";
  cell.collective = replay.meta("collective");
  cell.fidelity = number(replay, "fidelity");
  cell.predicted_saved_ns = std::llround(number(replay, "predicted_saved_ns").value_or(0));
  cell.realised_saved_ns = std::llround(number(replay, "realised_saved_ns").value_or(0));
  cell.fused = ratio_of_arms(replay, "overlap", "prefetch");
  cell.arms.clear();
  Query arms = replay.query("SELECT name FROM arm ORDER BY id");
  while (arms.next()) {
    const std::string arm(arms.text(0));
    const auto step_ns = number(replay, arm + "_step_ns");
    if (step_ns && *step_ns >= 1) {
      cell.arms.push_back({arm, std::llround(*step_ns), speedup_of(replay, arm)});
    }
  }
  choose(cell);
  cell.status = CellStatus::done;
  cell.reason.clear();
}

CellRun run_cell(const CellSettings& settings, const GridCell& cell, const fs::path& model,
                 const fs::path& folder, const std::function<void()>& waiting,
                 const std::function<void(std::string_view)>& heard) {
  CellRun result;
  result.cell.id = cell.id;
  result.cell.key = cell.key;
  const int64_t start_ns = monotonic_ns();
  const auto finish = [&] {
    result.stopped = stopped();
    result.cell.dur_ns = monotonic_ns() - start_ns;
    result.cell.finished_at = now_utc();
    return result;
  };
  const ChildRun tune =
      run_child_quietly(tune_command(settings, cell.key, model, folder), waiting, heard);
  if (tune.exit_code != kExitDone) {
    give_up(result.cell, "preserve-tune", tune);
    return finish();
  }
  const ChildRun replay = run_child_quietly(replay_command(settings, folder), waiting, heard);
  if (replay.exit_code != kExitDone) {
    give_up(result.cell, kReplayTool, replay);
    return finish();
  }
  try {
    const TraceDb db = TraceDb::open(folder / "replay.db");
    take_results(load_schedule(folder / "schedule.json"), db, result.cell);
    result.where = MeasuredOn{db.meta("device_name"), db.meta("executor")};
  } catch (const Error& error) {
    result.cell.status = CellStatus::failed;
    result.cell.reason = printable(error.what(), kReasonBytes);
  }
  return finish();
}

}  // namespace preserve
