// SPDX-License-Identifier: Apache-2.0
#include "reports/model/inputs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "common/error.h"
#include "common/output_file.h"
#include "db/explore/cells.h"
#include "db/replay_result.h"
#include "planner/schedule/schedule_check.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

namespace fs = std::filesystem;

// First bytes of a file, enough to tell a database from JSON.
std::string read_head(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw input_error("{}: no such file", path.string());
  if (!fs::is_regular_file(path, error)) {
    throw input_error("{}: is not a regular file", path.string());
  }
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!in) throw input_error("cannot read {}: {}", path.string(), std::strerror(errno));
  std::array<char, 64> bytes{};
  return {bytes.data(), std::fread(bytes.data(), 1, bytes.size(), in.get())};
}

std::string short_digest(const std::string& digest) {
  return digest.substr(0, 12);
}

std::string list_schedules(const std::vector<InputSet>& runs) {
  std::string text;
  for (const InputSet& run : runs) {
    for (const ScheduleInput& input : run.schedules) {
      text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", input.file.path.string(),
                          short_digest(input.file.sha256));
    }
  }
  return text.empty() ? "none" : text;
}

std::string list_traces(const std::vector<InputSet>& runs) {
  std::string text;
  for (const InputSet& run : runs) {
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", run.trace.path.string(),
                        short_digest(run.trace.sha256));
  }
  return text;
}

// The recording on which one of `replays` ran the schedule: not always the one it was planned from.
std::vector<InputSet>::iterator replayed_on(std::vector<InputSet>& runs,
                                            const std::vector<InputFile>& replays,
                                            const InputFile& schedule) {
  for (const InputFile& replay : replays) {
    const TraceDb db = TraceDb::open(replay.path);
    if (db.meta("schedule_sha256") != schedule.sha256) continue;
    const std::string trace = db.meta("trace_sha256");
    const auto run =
        std::ranges::find_if(runs, [&](const InputSet& set) { return set.trace.sha256 == trace; });
    if (run != runs.end()) return run;
  }
  return runs.end();
}

void add_schedule(std::vector<InputSet>& runs, const std::vector<InputFile>& replays,
                  ScheduleInput input) {
  auto run = replayed_on(runs, replays, input.file);
  if (run == runs.end()) {
    run = std::ranges::find_if(
        runs, [&](const InputSet& set) { return set.trace.sha256 == input.schedule.trace_sha256; });
  } else if (run->trace.sha256 != input.schedule.trace_sha256) {
    const TraceDb db = TraceDb::open(run->trace.path);
    move_to(fold_planned(db, planned_step(input.schedule)), input.file.path, input.schedule);
  }
  if (run == runs.end()) {
    throw input_error(
        "{}: was planned from another recording (SHA-256 {}), not from {}: name that trace, "
        "or run preserve-tune on this one",
        input.file.path.string(), short_digest(input.schedule.trace_sha256), list_traces(runs));
  }
  run->schedules.push_back(std::move(input));
}

void add_replay(std::vector<InputSet>& runs, InputFile file) {
  const TraceDb db = TraceDb::open(file.path);
  const std::string digest = clean(db.meta("schedule_sha256"));
  for (InputSet& run : runs) {
    const auto found = std::ranges::find_if(
        run.schedules, [&](const ScheduleInput& s) { return s.file.sha256 == digest; });
    if (found == run.schedules.end()) continue;
    const int64_t planned_ns = found->schedule.link_latency_ns;
    const int64_t replayed_ns = read_result(db).link_latency_ns;
    if (replayed_ns != planned_ns) {
      throw input_error("{}: was replayed with a link of {} ns, but {} was planned for {} ns",
                        file.path.string(), replayed_ns, found->file.path.string(), planned_ns);
    }
    const std::string trace = clean(db.meta("trace_sha256"));
    const bool by_calls = db.meta("executor") == "program";  // and by nothing of a recording
    if (!trace.empty() && trace != run.trace.sha256 && !by_calls) {
      throw input_error(
          "{}: was replayed on another recording (SHA-256 {}), not on {}: name that trace",
          file.path.string(), short_digest(trace), run.trace.path.string());
    }
    run.replays.push_back({std::move(file), static_cast<size_t>(found - run.schedules.begin())});
    return;
  }
  throw input_error(
      "{}: is the replay of a schedule with SHA-256 {}, which was not given (given: {}): add the "
      "schedule.json that it ran, or replay the present one again with preserve-replay",
      file.path.string(), short_digest(digest), list_schedules(runs));
}

std::optional<EarlyStep> fold_early(const InputFile& trace, const InputFile& schedule) {
  const std::optional<PlannedStep> planned = peek_planned_step(schedule.path);
  if (!planned) return std::nullopt;
  // Where no thread can be had it is folded when it is asked for.
  return EarlyStep{*planned, std::async(std::launch::async | std::launch::deferred,
                                        [path = trace.path, step = *planned] {
                                          return fold_planned(TraceDb::open(path), step);
                                        })};
}

InputFile input_file(const fs::path& path, InputKind kind) {
  return {path, kind, static_cast<int64_t>(fs::file_size(path)), sha256_of_file(path)};
}

void refuse_repeated(const std::vector<fs::path>& paths) {
  for (size_t i = 0; i < paths.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      std::error_code error;
      if (fs::equivalent(paths[i], paths[j], error)) {
        throw usage_error("{} is given twice", paths[i].string());
      }
    }
  }
}

}  // namespace

InputKind recognise(const fs::path& path) {
  const std::string head = read_head(path);
  if (head.rfind("SQLite format 3", 0) == 0) {
    const TraceDb db = TraceDb::open(path);
    const std::string kind = db.meta("kind");
    return kind == kReplayed || kind == kApplied ? InputKind::replay
           : kind == "grid"                      ? InputKind::grid
           : kind == kExploreKind                ? InputKind::explore
                                                 : InputKind::trace;
  }
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && head[first] == '{') return InputKind::schedule;
  throw input_error(
      "{}: is neither a trace.db, replay.db, grid.db or explore.db (SQLite) nor a schedule.json{}",
      path.string(), head.empty() ? ": it is empty" : "");
}

const char* to_text(InputKind kind) {
  return std::array{"trace", "schedule", "replay", "grid", "explore"}.at(static_cast<size_t>(kind));
}

std::vector<InputSet> read_runs(const std::vector<fs::path>& paths) {
  refuse_repeated(paths);
  std::vector<InputSet> runs;
  std::vector<InputFile> schedules, replays;
  for (const fs::path& path : paths) {
    InputFile file = input_file(path, recognise(path));
    switch (file.kind) {
      case InputKind::trace:
        for (const InputSet& other : runs) {
          if (other.trace.sha256 != file.sha256) continue;
          throw usage_error("{} and {} are the same recording", other.trace.path.string(),
                            path.string());
        }
        runs.push_back({std::move(file), {}, {}, {}});
        break;
      case InputKind::schedule:
        schedules.push_back(std::move(file));
        break;
      case InputKind::replay:
        replays.push_back(std::move(file));
        break;
      case InputKind::grid:
      case InputKind::explore:
        throw usage_error("{} has a report of its own: name it without files of other kinds",
                          path.string());
    }
  }
  if (runs.empty()) {
    throw usage_error("no trace.db among the inputs: name the recording that {} belongs to",
                      paths.empty() ? "the report" : paths.front().string());
  }
  if (runs.size() == 1 && !schedules.empty()) {
    runs.front().early_step = fold_early(runs.front().trace, schedules.front());
  }
  for (InputFile& file : schedules) {
    Schedule schedule = load_schedule(file.path);
    add_schedule(runs, replays, {std::move(file), std::move(schedule)});
  }
  for (InputFile& file : replays) add_replay(runs, std::move(file));
  return runs;
}

std::vector<InputFile> all_of_kind(const std::vector<fs::path>& paths, InputKind kind) {
  std::vector<InputFile> files;
  const fs::path* other = nullptr;
  for (const fs::path& path : paths) {
    if (recognise(path) != kind) {
      other = &path;
      continue;
    }
    files.push_back(input_file(path, kind));
  }
  if (files.empty() || other == nullptr) {
    refuse_repeated(paths);
    return files;
  }
  throw usage_error("{} has a report of its own, of kind {}: {} does not belong to it",
                    files.front().path.string(), to_text(kind), other->string());
}

}  // namespace preserve::report
