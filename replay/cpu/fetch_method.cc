// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/fetch_method.h"

#include "common/error.h"
#include "common/text.h"

namespace preserve {

FetchFunction find_fetch_method(std::string_view name) {
  std::string known;
  for (const FetchMethod& method : kFetchMethods) {
    if (method.name == name) return method.fetch;
    known += (known.empty() ? "" : ", ") + std::string(method.name);
  }
  throw input_error(
      "prefetch method \"{}\" is not one that a CPU replay has ({}): the schedule was "
      "made for another kind of device; plan again with the device.json of this machine",
      printable(name), known);
}

}  // namespace preserve
