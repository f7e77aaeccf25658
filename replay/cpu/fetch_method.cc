// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/fetch_method.h"

#include "common/error.h"
#include "common/text.h"

namespace preserve {

const std::vector<FetchMethod>& fetch_methods() {
  static const std::vector<FetchMethod> methods{
      {"load", fetch_lines::by_load},
      {"prefetcht0", fetch_lines::by_hint<3>},
      {"prefetcht1", fetch_lines::by_hint<2>},
      {"prefetcht2", fetch_lines::by_hint<1>},
      {"prefetcht0_paced", fetch_lines::by_paced_hint<3>},
      {"prefetcht2_paced", fetch_lines::by_paced_hint<1>},
  };
  return methods;
}

FetchFunction find_fetch_method(std::string_view name) {
  std::string known;
  for (const FetchMethod& method : fetch_methods()) {
    if (method.name == name) return method.fetch;
    known += (known.empty() ? "" : ", ") + std::string(method.name);
  }
  throw input_error(
      "prefetch method \"{}\" is not one that a CPU replay has ({}): the schedule was "
      "made for another kind of device; plan again with the device.json of this machine",
      printable(name), known);
}

}  // namespace preserve
