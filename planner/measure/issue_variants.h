// SPDX-License-Identifier: Apache-2.0
// The same plan issued differently. What the model cannot predict (which kind of request, how many
// thread blocks, how much per request, how long lines are kept, what starts first) is measured: few
// variants, each with its reason.
#pragma once

#include <string>
#include <vector>

#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"

namespace preserve {

struct IssueVariant {
  IssueMethod method;
  std::string why;
};

inline constexpr size_t kMostOtherMethods = 3;  // of the device file
inline constexpr size_t kMostVariants = kMostOtherMethods + 6;

// Other than `base`, each once; at most kMostVariants.
std::vector<IssueVariant> issue_variants(const DeviceModel& device, const IssueMethod& base);

}  // namespace preserve
