// SPDX-License-Identifier: Apache-2.0
// A generated step as a table, one row per operator: what it is, its bytes and shape, its time and
// where that is from.
#pragma once

#include <string>

#include "planner/workload/workload.h"

namespace preserve {

enum class TableFormat { text, csv, json };
const char* to_string(TableFormat format);

// text: for people, aligned, with the summary. csv and json: docs/model-steps.md lists the columns.
std::string step_table(const Workload& workload, TableFormat format);

}  // namespace preserve
