// SPDX-License-Identifier: Apache-2.0
#include "common/shell_word.h"

#include <fmt/format.h>

#include "common/text.h"

namespace preserve {

std::string shell_word(std::string_view word) {
  constexpr std::string_view kOrdinary =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:,@%=";
  if (!word.empty() && word.find_first_not_of(kOrdinary) == std::string_view::npos) {
    return std::string(word);
  }
  const bool hides = printable(word, SIZE_MAX) != word;
  std::string out = hides ? "$'" : "'";
  for (const char c : word) {
    if (c == '\'') {
      out += hides ? "\\'" : "'\\''";
    } else if (hides && c == '\\') {
      out += "\\\\";
    } else if (hides && (c < ' ' || c > '~')) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace preserve
