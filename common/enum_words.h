// SPDX-License-Identifier: Apache-2.0
// The words of an enumeration: an array in the order of its values. Header-only and without
// allocation: also used inside foreign processes.
#pragma once

#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>

namespace preserve {

template <typename Words, typename Enum>
constexpr auto word_of(const Words& words, Enum value) {
  return words[static_cast<size_t>(value)];
}

template <typename Enum, typename Words>
constexpr std::optional<Enum> find_word(const Words& words, std::string_view word) {
  for (size_t i = 0; i < std::size(words); ++i) {
    if (words[i] == word) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

}  // namespace preserve
