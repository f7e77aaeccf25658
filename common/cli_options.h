// SPDX-License-Identifier: Apache-2.0
// Transformers that let CLI11 store what people write in the type that is used: a duration as
// int64_t ns, a size as int64_t bytes, a word as its enumerator. They go on an option whose
// variable has that type (or is a std::optional of it):
//
//   app.add_option("--link", link_ns, "...")->transform(as_duration_ns())->default_str("0");
//   app.add_option("--budget", budget_bytes, "...")->transform(as_size_bytes());
//   app.add_option("--mode", mode, "...")->transform(as_choice<Mode>({{"fast", Mode::fast}, ...}));
//
// Default values in the help: default_str(format_duration(link_ns)), as CLI11 would print the bare
// number. What does not parse is a usage error that names the option.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace preserve {

// "200us" -> "200000"; refuses what is shorter than `least_ns` or longer than `most_ns`.
CLI::Validator as_duration_ns(int64_t least_ns = 0,
                              int64_t most_ns = std::numeric_limits<int64_t>::max());

// "32MiB" -> "33554432".
CLI::Validator as_size_bytes();

namespace detail {
CLI::Validator as_choice(std::vector<std::pair<std::string, int64_t>> values);
}

// A word of the list -> its enumerator; the help lists the words.
template <typename Enum>
CLI::Validator as_choice(const std::vector<std::pair<std::string, Enum>>& words) {
  std::vector<std::pair<std::string, int64_t>> values;
  for (const auto& [word, value] : words) values.emplace_back(word, static_cast<int64_t>(value));
  return detail::as_choice(std::move(values));
}

}  // namespace preserve
