// SPDX-License-Identifier: Apache-2.0
#include "common/text.h"

#include <fmt/format.h>

#include "common/utf8.h"

namespace preserve {
namespace {

// How many bytes, in UTF-8, are a character that terminals act on, or show nothing of, instead of
// showing it.
size_t control_bytes(std::string_view text) {
  if (lies_between(text[0], 0, 0x1f) || text[0] == '\x7f') return 1;
  if (text.size() > 1 && text[0] == '\xc2' && lies_between(text[1], 0x80, 0x9f)) return 2;
  if (text.starts_with("\xd8\x9c")) return 2;      // U+061C
  if (text.starts_with("\xef\xbb\xbf")) return 3;  // U+FEFF
  if (text.size() < 3 || text[0] != '\xe2') return 0;
  const bool reorders_or_hides =
      text[1] == '\x80' && (lies_between(text[2], 0x8b, 0x8f) ||  // U+200B to U+200F
                            lies_between(text[2], 0xa8, 0xae));   // U+2028 to U+202E
  const bool isolates_or_hides =
      text[1] == '\x81' && lies_between(text[2], 0xa0, 0xa9);  // U+2060 to U+2069
  return reorders_or_hides || isolates_or_hides ? 3 : 0;
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= limit) return out + "...";
    // To a terminal that reads bytes 0x80 to 0x9f are controls.
    const size_t character = character_bytes(text);
    const size_t hidden = character == 0 ? 1 : control_bytes(text);
    for (const char c : text.substr(0, hidden)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    if (hidden == 0) out += text.substr(0, character);
    text.remove_prefix(hidden == 0 ? character : hidden);
  }
  return out;
}

std::string count_of(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace preserve
