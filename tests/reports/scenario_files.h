// SPDX-License-Identifier: Apache-2.0
// A small but complete set of report inputs made from numbers: a recording, schedules planned for
// it, replays of them. Deterministic. Numbers are round, so that tests can say what must come out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "db/trace_db.h"
#include "planner/schedule/schedule.h"
#include "reports/model/inputs.h"

namespace preserve::test {

struct ReplaySpec {
  double prefetch_speedup = 1.142;
  int pairs = 45;       // one is a warm-up
  double noise = 0.01;  // relative, a fixed pattern
  bool prefetch_arm = true;
  bool overlap_arm = false;
  bool busy = false;         // every sample was interrupted
  std::string warning = "";  // in the replay's own list
};

// Two layers, two ranks; the second allreduce of each layer prefetches for what follows, the last
// window for the first layer of the next step.
Schedule make_schedule(const std::filesystem::path& trace, int64_t link_latency_ns = 0);
void write_schedule(const std::filesystem::path& path, const Schedule& schedule);
void write_replay(const std::filesystem::path& path, const std::filesystem::path& schedule,
                  const ReplaySpec& spec = {}, const std::function<void(TraceDb&)>& tweak = {});

// trace.db, schedule.json, replay.db (real collectives) and schedule-link.json, replay-link.db in
// `directory`; returns them in that order.
std::vector<std::filesystem::path> write_two_scenarios(const std::filesystem::path& directory,
                                                       int layers = 2);

// Whole bytes of a golden file next to the tests; with UPDATE_GOLDEN=1 `actual` is written there
// first.
std::string golden(const std::string& name, const std::string& actual);

}  // namespace preserve::test

namespace preserve::report {

// Of one recording.
inline InputSet read_inputs(const std::vector<std::filesystem::path>& paths) {
  return read_runs(paths).at(0);
}

}  // namespace preserve::report
