// SPDX-License-Identifier: Apache-2.0
// What a run of the program itself (apply.db) says of the device model that its plan was made with.
#pragma once

#include <filesystem>

#include "planner/measure/correction.h"

namespace preserve {

// `step` and `device` as the plan was made for. The schedule is the one that apply.db names, looked
// for as it was called then, else beside apply.db. input_error when either is not what it was, or
// belongs to another step.
CorrectedDevice learn_from_program(const FoldedStep& step, const DeviceModel& device,
                                   const std::filesystem::path& apply_db);

}  // namespace preserve
