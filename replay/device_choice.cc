// SPDX-License-Identifier: Apache-2.0
#include "replay/device_choice.h"

#include <charconv>

#include "common/error.h"
#include "common/text.h"

namespace preserve {

DeviceChoice parse_device(std::string_view text) {
  constexpr std::string_view kPrefix = "cuda:";
  if (text == "auto") return {DeviceChoice::Kind::automatic};
  if (text == "cpu") return {DeviceChoice::Kind::cpu};
  if (text == "cuda") return {DeviceChoice::Kind::gpu};
  if (text.starts_with(kPrefix)) {
    DeviceChoice choice{DeviceChoice::Kind::gpu, -1};
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + kPrefix.size(), end, choice.ordinal);
    if (error == std::errc() && rest == end && choice.ordinal >= 0) return choice;
  }
  throw usage_error(
      "invalid --device \"{}\": expected auto, cpu or cuda:N with the number of a GPU",
      printable(text));
}

}  // namespace preserve
