// SPDX-License-Identifier: Apache-2.0
#include "common/fail_if.h"

#include "common/error.h"
#include "common/number.h"
#include "common/text.h"

namespace preserve {

double parse_slower(const std::string& condition) {
  constexpr std::string_view kPrefix = "slower=";
  double percent = -1;
  if (condition.starts_with(kPrefix) && condition.ends_with('%')) {
    std::string_view number = std::string_view(condition).substr(kPrefix.size());
    number.remove_suffix(1);
    percent = number_of<double>(number).value_or(-1);
  }
  if (!(percent >= 0 && percent < 100)) {
    throw usage_error("invalid --fail-if '{}': expected slower=N% with 0 <= N < 100",
                      printable(condition));
  }
  return percent / 100;
}

bool surely_slower(const Interval& speedup, double share) {
  return speedup.high < 1 - share;
}

}  // namespace preserve
