// SPDX-License-Identifier: Apache-2.0
// What the processes of a run left behind, and what it means together.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apply/outcome_file.h"
#include "apply/plan_file.h"
#include "db/replay_result.h"
#include "planner/schedule/schedule.h"

namespace preserve::apply {

// One process that loaded the library. The view looks into the bytes.
struct Outcome {
  std::unique_ptr<std::byte[]> bytes;
  OutcomeView view;

  bool is_rank() const { return view.header().rank >= 0; }
};

struct Outcomes {
  std::vector<Outcome> processes;      // ranks first, by rank, then the others by process id
  std::vector<std::string> damaged{};  // remarks on files that could not be read

  std::vector<const Outcome*> ranks() const;
  // The rank whose measurements decided for all; nullptr when no rank loaded the library.
  const Outcome* deciding() const;
};

// All *.outcome files of the folder.
Outcomes read_outcomes(const std::filesystem::path& folder);

// Times of blocks of steps that ran in one arm; the slowest rank's. The first step of an arm does
// not count where another step remains, as in apply/control.
struct Block {
  Arm arm = Arm::original;
  int64_t pair = 0, position = 0;  // blocks with equal pair are compared
  int64_t step_ns = 0;             // mean of one or two steps
  bool counted = false;
};
inline constexpr int64_t kBlockSteps = 2, kPairBlocks = 2;  // as apply/control arranges them

std::vector<Block> blocks_of(const Outcomes& outcomes);

// Whether how many pairs there are follows from nothing that they show.
inline bool is_undecided(Mode mode) {
  return mode == Mode::compare || mode == Mode::dry_run;
}

// The run as a replay's result: arms baseline (original), prefetch (applied), null. Speed-ups are
// those of the confidence sequence by which the guard decided; where it does not decide medians of
// all pairs, as a replay's are.
ReplayResult result_of(const Outcomes& outcomes, const std::vector<Block>& blocks,
                       const Schedule& schedule, int64_t planned_bytes, Mode mode);

// What must be known before the numbers are believed, or why there are none; sentences.
std::vector<std::string> remarks_on(const Outcomes& outcomes, const Schedule& schedule,
                                    const std::vector<std::string>& tensor_names);

}  // namespace preserve::apply
