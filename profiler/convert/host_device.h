// SPDX-License-Identifier: Apache-2.0
// The processor of `host` as a row of `device`, from hwloc when it is this host; what is not known
// stays empty.
#pragma once

#include <string>

#include "db/trace_db.h"

namespace preserve {

DeviceRow host_device(const std::string& host);

}  // namespace preserve
