// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace preserve {

inline bool lies_between(char c, unsigned char first, unsigned char last) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= first && byte <= last;
}

// Bytes of the UTF-8 character at the front of `text`, which is not empty; 0 when there is none
// (RFC 3629: no surrogates, no overlong forms).
inline size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t bytes = lead < 0x80   ? 1
                       : lead < 0xc2 ? 0
                       : lead < 0xe0 ? 2
                       : lead < 0xf0 ? 3
                       : lead < 0xf5 ? 4
                                     : 0;
  if (bytes > text.size()) return 0;
  for (const char next : text.substr(1, bytes > 0 ? bytes - 1 : 0)) {
    if (!lies_between(next, 0x80, 0xbf)) return 0;
  }
  const bool refused = bytes >= 3 && ((lead == 0xe0 && lies_between(text[1], 0x80, 0x9f)) ||
                                      (lead == 0xed && lies_between(text[1], 0xa0, 0xbf)) ||
                                      (lead == 0xf0 && lies_between(text[1], 0x80, 0x8f)) ||
                                      (lead == 0xf4 && lies_between(text[1], 0x90, 0xbf)));
  return refused ? 0 : bytes;
}

}  // namespace preserve
