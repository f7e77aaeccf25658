// SPDX-License-Identifier: Apache-2.0
#include "common/text.h"

#include <fmt/format.h>

#include <array>

namespace preserve {
namespace {

// In UTF-8: what terminals act on instead of showing it.
bool is_two_byte_control(std::string_view text) {  // U+0080 to U+009F, U+061C
  return text.substr(0, 2) == "\xd8\x9c" ||
         (text[0] == '\xc2' && text.size() > 1 && static_cast<unsigned char>(text[1]) >= 0x80 &&
          static_cast<unsigned char>(text[1]) < 0xa0);
}
bool is_three_byte_control(std::string_view text) {
  static constexpr std::array<std::string_view, 13> kControls{
      "\xe2\x80\x8e", "\xe2\x80\x8f",  // U+200E, U+200F
      "\xe2\x80\xa8", "\xe2\x80\xa9",  // line and paragraph separator
      "\xe2\x80\xaa", "\xe2\x80\xab", "\xe2\x80\xac", "\xe2\x80\xad",
      "\xe2\x80\xae",                                                   // U+202A to U+202E
      "\xe2\x81\xa6", "\xe2\x81\xa7", "\xe2\x81\xa8", "\xe2\x81\xa9"};  // U+2066 to U+2069
  for (const std::string_view control : kControls) {
    if (text.substr(0, 3) == control) return true;
  }
  return false;
}
size_t control_bytes(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text[0]);
  if (byte < 0x20 || byte == 0x7f) return 1;
  if (byte < 0x80) return 0;
  if (is_two_byte_control(text)) return 2;
  return is_three_byte_control(text) ? 3 : 0;
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= limit) return out + "...";
    const size_t hidden = control_bytes(text);
    for (const char c : text.substr(0, hidden))
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    if (hidden == 0) out += text[0];
    text.remove_prefix(hidden == 0 ? 1 : hidden);
  }
  return out;
}

std::string count_of(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace preserve
