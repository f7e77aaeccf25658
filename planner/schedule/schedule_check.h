// SPDX-License-Identifier: Apache-2.0
// Whether a schedule fits the step that it was planned for: the step has its operators under these
// names, its windows are operators without memory traffic, its bytes are bytes of the step's
// tensors. load_schedule() checks the file by itself; this check also needs the trace. And what a
// schedule says of the step itself.
#pragma once

#include <filesystem>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// The step's collectives, as a schedule names them.
std::vector<SignatureCall> signature_of(const FoldedStep& step);

// Gives every window and consumer of all plans its path and occurrence; their ordinals are of
// `step`.
void name_places(const FoldedStep& step, Schedule& schedule);

// Makes a schedule that was planned from another recording of the program one of `step`: operators
// are found by path and occurrence and get the ordinals that they have here. Throws input_error
// naming `path` when the step has other collectives, lacks an operator or has it on several
// streams, or a file before 1.3 has no places.
void move_to(const FoldedStep& step, const std::filesystem::path& path, Schedule& schedule);

// Of the signature, the chosen plan and the candidates. Throws input_error naming `path` and what
// does not fit.
void check_schedule(const Schedule& schedule, const std::filesystem::path& path,
                    const FoldedStep& step);

// fold_step() of that rank and phase.
FoldedStep fold_planned(const TraceDb& db, const PlannedStep& planned);

}  // namespace preserve
