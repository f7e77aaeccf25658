// SPDX-License-Identifier: Apache-2.0
// Characters of JSON text, many at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace preserve::import {

#if defined(__SSE2__)
inline int mask_of_quote_or_escape(const char* at) {
  const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')),
                                        _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'))));
}
#endif

// First quote or backslash in [at, end), or end. 15 bytes more may be read.
inline const char* find_quote_or_escape(const char* at, const char* end) {
#if defined(__SSE2__)
  for (; at < end; at += 16) {
    if (const int mask = mask_of_quote_or_escape(at); mask != 0) {
      return std::min(at + __builtin_ctz(static_cast<unsigned>(mask)), end);
    }
  }
  return end;
#else
  while (at < end && *at != '"' && *at != '\\') ++at;
  return at;
#endif
}

inline constexpr size_t kStructureBlock = 64;

// What brackets are found by in the kStructureBlock bytes from `at` on: a bit for each byte, the
// lowest first.
struct Structure {
  uint64_t quotes = 0, escapes = 0, open = 0, close = 0;
};

inline Structure structure_at(const char* at) {
  Structure found;
#if defined(__SSE2__)
  for (size_t i = 0; i < kStructureBlock; i += 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + i));
    const __m128i folded = _mm_or_si128(block, _mm_set1_epi8(0x20));  // '[' to '{', ']' to '}'
    const auto mask = [&](__m128i where, char c) {
      const __m128i equal = _mm_cmpeq_epi8(where, _mm_set1_epi8(c));
      return static_cast<uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(equal))) << i;
    };
    found.quotes |= mask(block, '"');
    found.escapes |= mask(block, '\\');
    found.open |= mask(folded, '{');
    found.close |= mask(folded, '}');
  }
#else
  for (size_t i = 0; i < kStructureBlock; ++i) {
    const uint64_t bit = uint64_t{1} << i;
    found.quotes |= at[i] == '"' ? bit : 0;
    found.escapes |= at[i] == '\\' ? bit : 0;
    found.open |= at[i] == '{' || at[i] == '[' ? bit : 0;
    found.close |= at[i] == '}' || at[i] == ']' ? bit : 0;
  }
#endif
  return found;
}

// Of each bit, whether an odd number of bits is set up to it: with quotes, what lies in strings.
inline uint64_t odd_up_to(uint64_t bits) {
  for (int shift = 1; shift < 64; shift *= 2) bits ^= bits << shift;
  return bits;
}

inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Of text that ends with something else.
inline const char* after_space(const char* at) {
  while (is_space(*at)) ++at;
  return at;
}

inline bool is_digit(char c) {
  return static_cast<unsigned char>(c - '0') < 10;
}

// -1: none.
inline int hex_digit(char c) {
  return is_digit(c)            ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

inline bool is_number_char(char c) {
  return is_digit(c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

inline bool is_word_char(char c) {
  return is_number_char(c) || static_cast<unsigned char>((c | 0x20) - 'a') < 26;
}

}  // namespace preserve::import
