// SPDX-License-Identifier: Apache-2.0
#include "reports/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "db/utf8.h"

namespace preserve::report {
namespace {

// Length of the character at the start of valid UTF-8; `code` is its code point.
size_t decode(std::string_view text, uint32_t& code) {
  const auto byte = [&](size_t i) -> uint32_t { return static_cast<unsigned char>(text[i]); };
  const size_t length = byte(0) < 0x80 ? 1 : byte(0) < 0xE0 ? 2 : byte(0) < 0xF0 ? 3 : 4;
  code = length == 1 ? byte(0) : byte(0) & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3F);
  return length;
}

// Characters that change how others are shown without being seen themselves.
bool is_invisible_control(uint32_t code) {
  return (code >= 0x80 && code < 0xA0) || code == 0x061C || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) ||
         code == 0xFEFF || (code & 0xFFFE) == 0xFFFE;
}

}  // namespace

std::string clean(std::string_view text, size_t limit) {
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F; };
  if (text.size() <= limit && std::ranges::all_of(text, plain)) {
    return std::string(text);  // as nearly all are
  }
  constexpr size_t kLongest = 4;  // bytes of a character
  const std::string valid = valid_utf8(text.substr(0, limit + kLongest));
  std::string out;
  for (size_t at = 0; at < valid.size();) {
    if (out.size() >= limit) return fmt::format("{}... ({} bytes)", out, text.size());
    uint32_t code = 0;
    const size_t length = decode(std::string_view(valid).substr(at), code);
    if (code < 0x20 || code == 0x7F) {
      out += fmt::format("\\x{:02x}", code);
    } else if (is_invisible_control(code)) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += valid.substr(at, length);
    }
    at += length;
  }
  return out;
}

std::string shorten(std::string_view text, size_t characters) {
  const auto starts_character = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  };
  const auto count = static_cast<size_t>(std::ranges::count_if(text, starts_character));
  if (count <= characters) return std::string(text);
  const size_t head = characters / 3;
  const size_t tail = characters - head - 1;
  std::string first, last;
  size_t index = 0;
  for (const char c : text) {
    if (starts_character(c)) ++index;
    if (index <= head) first += c;
    if (index > count - tail) last += c;
  }
  return first + "\xE2\x80\xA6" + last;  // horizontal ellipsis
}

std::string without_layer_numbers(std::string_view name) {
  constexpr std::string_view kSeparators = "./:";
  std::string out;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find_first_of(kSeparators, at), name.size());
    const std::string_view part = name.substr(at, end - at);
    const bool number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    out += number ? "*" : part;
    if (end < name.size()) out += name[end];
    at = end + 1;
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string escape_script_json(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    // A < inside a JSON text occurs only within strings, where \u003c means the same.
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string csv_text(std::string_view text) {
  std::string out = "\"";
  if (!text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos) {
    out += '\'';
  }
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string markdown_code(std::string_view text) {
  size_t longest = 0, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  const bool pad = text.empty() || text.front() == '`' || text.back() == '`';
  std::string out = fence + (pad ? " " : "");
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out + (pad ? " " : "") + fence;
}

std::string markdown_prose(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '@' || c == '#') {
      out += fmt::format("&#{};", static_cast<int>(c));  // no mention, no issue link
      continue;
    }
    if (std::string_view("\\`*_{}[]<>|~").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string grouped(long long value) {
  std::string digits = fmt::format("{}", value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

}  // namespace preserve::report
