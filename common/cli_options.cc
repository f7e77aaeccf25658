// SPDX-License-Identifier: Apache-2.0
#include "common/cli_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "common/error.h"
#include "common/units.h"

namespace preserve {
namespace {

// CLI11 reports an error by the text that a validator returns, after the name of the option.
CLI::Validator transformer(std::function<std::string(const std::string&)> convert) {
  return CLI::Validator(
      [convert = std::move(convert)](std::string& text) -> std::string {
        try {
          text = convert(text);
          return {};
        } catch (const Error& error) {
          return error.what();
        }
      },
      "");
}

}  // namespace

CLI::Validator as_duration_ns(int64_t least_ns, int64_t most_ns) {
  return transformer([=](const std::string& text) {
    const int64_t ns = parse_duration_ns(text);
    if (ns < least_ns) {
      throw usage_error("{} is too short, at least {} is needed", text, format_duration(least_ns));
    }
    if (ns > most_ns) {
      throw usage_error("{} is too long, at most {} is possible", text, format_duration(most_ns));
    }
    return std::to_string(ns);
  });
}

CLI::Validator as_size_bytes() {
  return transformer(
      [](const std::string& text) { return std::to_string(parse_size_bytes(text)); });
}

CLI::Validator detail::as_choice(std::vector<std::pair<std::string, int64_t>> values) {
  std::vector<std::string> words;
  words.reserve(values.size());
  for (const auto& item : values) words.push_back(item.first);
  const std::string list = fmt::format("{}", fmt::join(words, ", "));
  CLI::Validator choice = transformer([values = std::move(values), list](const std::string& text) {
    const auto found = std::find_if(values.begin(), values.end(),
                                    [&](const auto& item) { return item.first == text; });
    if (found == values.end()) throw usage_error("invalid value '{}': expected {}", text, list);
    return std::to_string(found->second);
  });
  return choice.description("{" + list + "}");
}

}  // namespace preserve
