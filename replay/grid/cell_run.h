// SPDX-License-Identifier: Apache-2.0
// One cell: preserve-tune makes and plans the step, preserve-replay measures the plan, each in a
// process of its own; what they wrote becomes the cell.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/grid/cells.h"
#include "db/replay_result.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// Begins the reason of a cell whose replay failed.
inline constexpr const char* kReplayTool = "preserve-replay";

struct CellSettings {
  std::filesystem::path tune, replay;  // the tools
  std::filesystem::path device_file;
  std::string time_limit, link;  // as given; link empty: none
  std::string measure_time;      // of the closed loop before the replay; empty: plans as planned
  std::vector<std::string> replay_words;  // passed unchanged to every replay
};

// Where the replay ran; the same for all cells of a grid. Collectives may differ:
// with four GPUs, cells on eight ranks have stand-ins.
struct MeasuredOn {
  std::string device, executor;

  bool operator==(const MeasuredOn&) const = default;
};

struct CellRun {
  GridCell cell;
  std::optional<MeasuredOn> where{};  // of a cell that is done
  bool stopped = false;               // a stop signal came: the cell counts as not run
};

std::vector<std::string> tune_command(const CellSettings& settings, const CellKey& key,
                                      const std::filesystem::path& model,
                                      const std::filesystem::path& folder);
std::vector<std::string> replay_command(const CellSettings& settings,
                                        const std::filesystem::path& folder);

// Writes trace.db, schedule.json and replay.db into `folder`. Never throws for what a child does:
// that is the cell's status. `waiting` is called about once a second, `printed` with what the
// children print on standard error.
CellRun run_cell(const CellSettings& settings, const GridCell& cell,
                 const std::filesystem::path& model, const std::filesystem::path& folder,
                 const std::function<void()>& waiting,
                 const std::function<void(std::string_view)>& printed = {});

// What a schedule and its replay say about a cell. input_error when arm prefetch is missing.
void take_results(const Schedule& schedule, const ReplayResult& replay, GridCell& cell);

}  // namespace preserve
