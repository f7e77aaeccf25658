// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "common/fetch_lines.h"

namespace preserve {

// input_error, listing the known ones, for a name that is not among them.
FetchFunction find_fetch_method(std::string_view name);

}  // namespace preserve
