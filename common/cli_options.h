// SPDX-License-Identifier: Apache-2.0
// Transformers that let CLI11 store what people write in the type that is used: a duration as
// int64_t ns, a size as int64_t bytes, a word as its enumerator. They go on an option whose
// variable has that type (or is a std::optional of it):
//
//   app.add_option("--link", link_ns, "...")->transform(as_duration_ns())->default_str("0");
//   app.add_option("--budget", budget_bytes, "...")->transform(as_size_bytes());
//   app.add_option("--mode", mode, "...")->transform(as_choice({Mode::fast, Mode::exact}));
//
// Default values in the help: default_str(format_duration(link_ns)), as CLI11 would print the bare
// number; of an enumerator capture_default_str() prints its word, when to_string() returns a const
// char* or std::string. What does not parse is a usage error that names the option.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace preserve {

// "200us" -> "200000"; refuses what is shorter than `least_ns` or longer than `most_ns`.
CLI::Validator as_duration_ns(int64_t least_ns = 0,
                              int64_t most_ns = std::numeric_limits<int64_t>::max());

// "32MiB" -> "33554432".
CLI::Validator as_size_bytes();

// The name of a file, or of one of those in examples/<folder>, which come with the tools:
// "h100-sxm" -> ".../examples/devices/h100-sxm.json".
CLI::Validator as_shipped_file(const std::string& folder);

// "4096", "8K" (8192), "1M": whole numbers from 1; else nothing.
std::optional<int64_t> parse_count(std::string_view text);

// "; did you mean --link?" for "--lnik", or nothing when no word of `known` is close to `word`.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// "unknown option --lnik; did you mean --link?" when the words that `app` could not place have an
// option in them; else empty.
std::string unknown_option(const CLI::App& app);

namespace detail {
CLI::Validator as_choice(std::vector<std::pair<std::string, int64_t>> values, size_t listed);
}

// The word that to_string() has for one of `choices` -> that enumerator; the help lists the words.
// `synonyms` are understood as well, and not listed.
template <typename Enum>
CLI::Validator as_choice(std::initializer_list<Enum> choices,
                         std::initializer_list<std::pair<const char*, Enum>> synonyms = {}) {
  std::vector<std::pair<std::string, int64_t>> values;
  for (const Enum choice : choices) {
    values.emplace_back(std::string(to_string(choice)), static_cast<int64_t>(choice));
  }
  const size_t listed = values.size();
  for (const auto& [word, choice] : synonyms) {
    values.emplace_back(word, static_cast<int64_t>(choice));
  }
  return detail::as_choice(std::move(values), listed);
}

}  // namespace preserve
