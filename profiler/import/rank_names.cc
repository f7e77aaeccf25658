// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/rank_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "profiler/gpu/records.h"

namespace preserve::import {
namespace {

constexpr size_t kMostDigits = 6;
// Slowest first.
constexpr std::array kDimensions{"pp", "dp", "cp", "tp", "ep"};
constexpr std::string_view kSeparators = " _-.:=#";  // of a word and its number

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The number at the front of `text`, which no letter or further digit follows.
std::optional<int64_t> leading_number(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || digits > kMostDigits) return std::nullopt;
  if (digits < text.size() && is_letter(text[digits])) return std::nullopt;
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + digits, value);
  return value;
}

// What else may follow `word`: "worker(1).json" is a second download, "worker[4821]" has a pid.
std::string separators_of(std::string_view word) {
  return std::string(kSeparators) + (word == "rank" ? "[(" : "");
}

// The number after the last whole `word` of `text` that has one, at most one separator between.
std::optional<int64_t> number_after(std::string_view text, std::string_view word,
                                    std::string_view separators) {
  std::optional<int64_t> found;
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    if (at > 0 && is_letter(text[at - 1])) continue;
    // "local_rank1": of one host only.
    if (at > 0 && text.substr(0, at - 1).ends_with("local")) continue;
    std::string_view rest = text.substr(at + word.size());
    if (!rest.empty() && separators.find(rest.front()) != std::string_view::npos) {
      rest.remove_prefix(1);
    }
    if (const auto number = leading_number(rest)) found = number;
  }
  return found;
}

}  // namespace

RankName rank_in_label(std::string_view label) {
  RankName name;
  if (label.starts_with('[')) label = label.substr(1, label.find(']') - 1);
  const std::string lower = gpu::lower_case(label);
  for (const std::string word : {"rank", "worker"}) {
    if (!name.rank && (lower.starts_with(word) || lower.find(" " + word) != std::string::npos)) {
      name.rank = number_after(lower, word, separators_of(word));
    }
  }
  // Dimensions at the front: "TP00-PP01", "tp_rank=1"; or where programs put them in their title,
  // "VLLM::Worker_TP1".
  std::string_view rest = lower;
  if (const size_t title = rest.rfind("::"); title != std::string_view::npos) {
    rest.remove_prefix(title + 2);
    rest.remove_prefix(std::min(rest.find('_') + 1, rest.size()));
  }
  while (rest.size() > 2) {
    const std::string dimension(rest.substr(0, 2));
    if (std::ranges::find(kDimensions, dimension) == kDimensions.end()) break;
    rest.remove_prefix(2);
    if (rest.starts_with("_rank") || rest.starts_with(" rank")) rest.remove_prefix(5);
    if (!rest.empty() && kSeparators.find(rest.front()) != std::string_view::npos) {
      rest.remove_prefix(1);
    }
    const auto number = leading_number(rest);
    if (!number) break;
    name.place[dimension] = *number;
    rest.remove_prefix(std::min(rest.find_first_not_of("0123456789"), rest.size()));
    rest.remove_prefix(std::min(rest.find_first_not_of("-_ ,"), rest.size()));
  }
  return name;
}

RankName rank_in_file_name(std::string_view file_name) {
  RankName name;
  const std::string lower = gpu::lower_case(file_name);
  for (const char* word : {"rank", "worker"}) {
    if (!name.rank) name.rank = number_after(lower, word, separators_of(word));
  }
  for (const char* dimension : kDimensions) {
    std::string word(dimension);
    for (char& c : word) c = static_cast<char>(c - 'a' + 'A');
    if (const auto number = number_after(file_name, word + "-", ""))
      name.place[dimension] = *number;
  }
  return name;
}

std::vector<int64_t> ranks_of(const std::vector<RankName>& names) {
  std::vector<int64_t> ranks;
  for (const RankName& name : names) {
    if (name.rank) ranks.push_back(*name.rank);
  }
  if (!ranks.empty()) return ranks.size() == names.size() ? ranks : std::vector<int64_t>{};
  std::vector<std::vector<int64_t>> places(names.size());
  const char* only = nullptr;
  size_t told = 0;
  for (const char* dimension : kDimensions) {
    std::vector<int64_t> numbers;
    for (const RankName& name : names) {
      const auto found = name.place.find(dimension);
      if (found != name.place.end()) numbers.push_back(found->second);
    }
    if (numbers.empty()) continue;
    if (numbers.size() != names.size()) return {};
    const bool agree =
        std::ranges::all_of(numbers, [&](int64_t number) { return number == numbers.front(); });
    const bool is_tp = dimension == std::string_view("tp");
    if (agree && !is_tp && numbers.front() == 0) continue;
    // All in one place other than the first: how many ranks come before it is not known.
    if (agree && !is_tp) return {};
    if (agree && names.size() > 1) continue;
    only = dimension;
    ++told;
    for (size_t i = 0; i < names.size(); ++i) places[i].push_back(numbers[i]);
  }
  if (told == 0) return {};
  const std::set<std::vector<int64_t>> different(places.begin(), places.end());
  if (different.size() != names.size()) return {};
  for (const std::vector<int64_t>& place : places) {
    ranks.push_back(told == 1 && only == std::string_view("tp")
                        ? place.front()
                        : std::distance(different.begin(), different.find(place)));
  }
  return ranks;
}

}  // namespace preserve::import
