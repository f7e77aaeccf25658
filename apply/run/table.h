// SPDX-License-Identifier: Apache-2.0
// What preserve-apply prints when the program has ended.
#pragma once

#include <string>

#include "apply/run/outcomes.h"

namespace preserve::apply {

// The ranks and the arms; remarks are printed apart.
std::string table_of(const Outcomes& outcomes, const ReplayResult& result, Mode mode);

}  // namespace preserve::apply
