// SPDX-License-Identifier: Apache-2.0
#include "replay/device_choice.h"

#include "common/error.h"
#include "common/number.h"
#include "common/text.h"

namespace preserve {

DeviceChoice parse_device(std::string_view text) {
  constexpr std::string_view kPrefix = "cuda:";
  if (text == "auto") return {DeviceChoice::Kind::automatic};
  if (text == "cpu") return {DeviceChoice::Kind::cpu};
  if (text == "cuda") return {DeviceChoice::Kind::gpu};
  if (text.starts_with(kPrefix)) {
    const auto ordinal = number_of<int>(text.substr(kPrefix.size()));
    if (ordinal && *ordinal >= 0) return {DeviceChoice::Kind::gpu, *ordinal};
  }
  throw usage_error(
      "invalid --device \"{}\": expected auto, cpu or cuda:N with the number of a GPU",
      printable(text));
}

}  // namespace preserve
