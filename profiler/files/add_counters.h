// SPDX-License-Identifier: Apache-2.0
// --add-counters: a recording of times with the hardware counters of another recording of the same
// program. The n-th kernel of a name in ranges of a name within a step is the n-th one there, where
// the step has as many of them; it gets the mean over all steps. What does not agree stays as it
// is.
#pragma once

#include <string>

#include "common/cli.h"

namespace preserve {

// Counters of one process are taken for all ranks; those of several go to the same rank. Throws
// input_error when the files are not of these kinds, or have no operator in common.
int add_counters(const std::string& trace, const std::string& counters, const std::string& output,
                 bool force, Console& console);

}  // namespace preserve
