// SPDX-License-Identifier: Apache-2.0
// The option --device: the cores of this host, or a GPU by its number.
#pragma once

#include <string_view>

namespace preserve {

struct DeviceChoice {
  enum class Kind { automatic, cpu, gpu };
  Kind kind = Kind::cpu;
  int ordinal = 0;  // of the GPU, or of the first one when there are several ranks
};

// "auto", "cpu", "cuda" (the first GPU), "cuda:N". usage_error for anything else.
DeviceChoice parse_device(std::string_view text);

}  // namespace preserve
