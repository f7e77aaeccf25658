// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/json_reader.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "common/error.h"
#include "profiler/import/json_scan.h"

namespace preserve::import {
namespace {

// Slack after the window, of zeros: blocks and keys are read past the last byte of text.
constexpr size_t kSlack = 64;
static_assert(kSlack >= kStructureBlock && kSlack >= JsonReader::kKeyLimit);

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

// Four hexadecimal digits at `at`, or -1.
int32_t hex4(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return -1;
  int32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) {
    const int digit = hex_digit(text[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

JsonReader::JsonReader(ByteSource& source, std::string file, size_t window)
    : source_(source),
      file_(std::move(file)),
      window_(std::max<size_t>(window, 64)),
      buffer_(std::make_unique<char[]>(window_ + kSlack)) {
  position_ = end_ = buffer_.get();
}

void JsonReader::fail(std::string_view what) {
  if (position_ == end_) {
    throw input_error(
        "{}: stops in the middle, after {} bytes of text{}{}; --partial takes what came before",
        file_, offset(), source_.damage().empty() ? "" : ": ", source_.damage());
  }
  throw input_error("{}: is not valid JSON at byte {}: {}; --partial takes what came before", file_,
                    offset(), what);
}

// Makes room and reads more. Bytes from `keep` on (a position in the window) stay and `keep`
// follows them. false at the end of the text, or when the kept bytes fill the window.
bool JsonReader::refill(const char*& keep) {
  char* const base = buffer_.get();
  const size_t kept = static_cast<size_t>(end_ - keep);
  const size_t ahead = static_cast<size_t>(position_ - keep);
  if (kept == window_) return false;
  consumed_before_ += static_cast<uint64_t>(keep - base);
  std::memmove(base, keep, kept);
  keep = base;
  position_ = base + ahead;
  end_ = base + kept;
  const size_t got = source_.read(base + kept, window_ - kept);
  end_ += got;
  std::memset(base + kept + got, 0, kSlack);
  return got != 0;
}

void JsonReader::refill_or_fail(const char*& keep) {
  if (refill(keep)) return;
  position_ = end_;
  fail("");
}

char JsonReader::next_after_space() {
  while (true) {
    while (position_ < end_) {
      const char c = *position_;
      if (is_token(c)) return c;
      if (!is_space(c) && !(offset() < kByteOrderMark.size() && c == kByteOrderMark[offset()]))
        return c;
      ++position_;
    }
    const char* keep = position_;
    if (!refill(keep)) return '\0';
  }
}

char JsonReader::peek() {
  return next_significant();
}

void JsonReader::expect(char bracket) {
  const char c = next_significant();
  if (c != bracket) fail(fmt::format("expected '{}'", bracket));
  ++position_;
  first_in_container_ = true;
}

// Of a key, from the comma before it to the value after it, that lies in the window as a whole and
// has no escapes; false: not done.
bool JsonReader::short_key(std::string_view& key) {
  constexpr std::ptrdiff_t kRoom = 128;
  if (end_ - position_ < kRoom) return false;
  const char* at = after_space(position_);
  if ((*at == ',') == first_in_container_) return false;
  if (*at == ',') at = after_space(at + 1);
  if (*at != '"' || end_ - at < kRoom / 2) return false;
  const char* const text = at + 1;
  const char* const quote = find_quote_or_escape(text, text + kKeyLimit - 16);
  if (*quote != '"') return false;
  at = after_space(quote + 1);
  if (*at != ':') return false;
  at = after_space(at + 1);
  if (at >= end_) return false;
  position_ = at;
  first_in_container_ = false;
  std::memcpy(key_.data(), text, kKeyLimit);  // of a constant size: a few instructions
  key = {key_.data(), static_cast<size_t>(quote - text)};
  return true;
}

bool JsonReader::next_key(std::string_view& key) {
  if (short_key(key)) return true;
  char c = next_significant();
  if (c == ',' && !first_in_container_) {
    ++position_;
    c = next_significant();
  } else if (c == '}') {
    ++position_;
    first_in_container_ = false;
    return false;
  } else if (!first_in_container_ && position_ != end_) {
    fail("expected ',' or '}' in an object");
  }
  if (c != '"') fail("expected a key in double quotes");
  first_in_container_ = false;
  const std::string_view text = string();
  const size_t length = std::min(text.size(), kKeyLimit);
  std::memcpy(key_.data(), text.data(), length);
  key = {key_.data(), length};
  if (next_significant() != ':') fail("expected ':' after a key");
  ++position_;
  return true;
}

bool JsonReader::next_element(bool may_end) {
  const char c = next_significant();
  if (c == ']') {
    ++position_;
    first_in_container_ = false;
    return false;
  }
  if (position_ == end_) {
    if (may_end && source_.damage().empty()) return false;
    fail("");
  }
  if (!first_in_container_) {
    if (c != ',') fail("expected ',' or ']' in an array");
    ++position_;
    // Some writers leave a comma after the last event.
    const char after = next_significant();
    if (after == ']') {
      ++position_;
      return false;
    }
    if (may_end && position_ == end_ && source_.damage().empty()) return false;
  }
  first_in_container_ = false;
  return true;
}

std::string_view JsonReader::string() {
  const char opening = next_significant();
  if (opening != '"') fail("expected a string");
  const char* begin = ++position_;
  bool escaped = false;
  while (true) {
    position_ = find_quote_or_escape(position_, end_);
    if (position_ < end_ && *position_ == '"') {
      const std::string_view raw(begin, static_cast<size_t>(position_ - begin));
      ++position_;
      return escaped ? unescaped(raw) : raw;
    }
    if (position_ + 1 < end_) {  // a backslash and what it escapes
      escaped = true;
      position_ += 2;
      continue;
    }
    // The window ends in the string, perhaps right after a backslash.
    if (end_ - begin == static_cast<std::ptrdiff_t>(window_)) {
      ++strings_cut_;
      std::string head(begin, window_ / 2);
      skip_string();
      while (!head.empty() && head.back() == '\\') head.pop_back();
      scratch_ = std::move(head);
      return scratch_;
    }
    refill_or_fail(begin);
  }
}

// From after the opening quote of a string to after its closing quote.
void JsonReader::skip_string() {
  while (true) {
    position_ = find_quote_or_escape(position_, end_);
    if (position_ < end_ && *position_ == '"') {
      ++position_;
      return;
    }
    if (position_ + 1 < end_) {
      position_ += 2;
      continue;
    }
    const char* keep = position_;
    refill_or_fail(keep);
  }
}

std::string_view JsonReader::unescaped(std::string_view raw) {
  scratch_.clear();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\' || i + 1 == raw.size()) {
      scratch_ += raw[i];
      continue;
    }
    const char c = raw[++i];
    switch (c) {
      case 'b':
        scratch_ += '\b';
        break;
      case 'f':
        scratch_ += '\f';
        break;
      case 'n':
        scratch_ += '\n';
        break;
      case 'r':
        scratch_ += '\r';
        break;
      case 't':
        scratch_ += '\t';
        break;
      case 'u': {
        int32_t code = hex4(raw, i + 1);
        if (code < 0) {
          scratch_ += 'u';  // not an escape of JSON; keep what is there
          break;
        }
        i += 4;
        if (code >= 0xd800 && code < 0xdc00 && i + 2 < raw.size() && raw[i + 1] == '\\' &&
            raw[i + 2] == 'u') {
          if (const int32_t low = hex4(raw, i + 3); low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            i += 6;
          }
        }
        append_utf8(scratch_, static_cast<uint32_t>(code));
        break;
      }
      default:
        scratch_ += c;
    }
  }
  return scratch_;
}

// The characters of a number. Numbers are short; one that touches the window's end moves with it.
std::string_view JsonReader::number_text() {
  next_significant();
  const char* begin = position_;
  while (true) {
    while (position_ < end_ && is_number_char(*position_)) ++position_;
    if (position_ < end_) break;
    if (!refill(begin)) break;
  }
  return {begin, static_cast<size_t>(position_ - begin)};
}

namespace {

// Sign, digits and up to three fraction digits of a plain decimal, which something else follows.
// Returns its end; nullptr: there is none, or it is too large.
const char* read_decimal(const char* at, int64_t& whole, int& thousandths) {
  const bool negative = *at == '-';
  if (negative) ++at;
  const char* const digits = at;
  int64_t value = 0;
  for (; is_digit(*at); ++at) {
    if (value > (INT64_MAX - 9) / 10) return nullptr;
    value = value * 10 + (*at - '0');
  }
  if (at == digits) return nullptr;
  int fraction = 0;
  if (*at == '.') {
    for (int weight = 100; is_digit(*++at); weight /= 10) fraction += weight * (*at - '0');
  }
  whole = negative ? -value : value;
  thousandths = negative ? -fraction : fraction;
  return at;
}

}  // namespace

bool JsonReader::decimal(int64_t& whole, int& thousandths) {
  const char first = peek();
  const bool quoted = first == '"';
  if (!quoted && first != '-' && !is_digit(first)) {
    skip_value();
    return false;
  }
  if (!quoted) {  // mostly it lies in the window as a whole
    const char* end = read_decimal(position_, whole, thousandths);
    if (end != nullptr && end < end_ && !is_number_char(*end)) {
      position_ = end;
      return true;
    }
  }
  const std::string text((quoted ? string() : number_text()).substr(0, 64));
  const char* end = read_decimal(text.c_str(), whole, thousandths);
  if (end != nullptr && *end == '\0') return true;
  char* rest = nullptr;
  const double real = std::strtod(text.c_str(), &rest);
  if (text.empty() || *rest != '\0' || !std::isfinite(real) || std::fabs(real) >= 9e15)
    return false;
  whole = static_cast<int64_t>(real);
  thousandths = static_cast<int>((real - static_cast<double>(whole)) * 1000);
  return true;
}

bool JsonReader::integer(int64_t& value) {
  int thousandths = 0;
  return decimal(value, thousandths);
}

// Passes over the inside of `depth` open brackets. With `keep`, bytes from there on stay in the
// window as long as they fit in half of it; *keep becomes null when they do not.
void JsonReader::skip_nested(int64_t depth, const char** keep) {
  bool in_string = false;
  while (true) {
    const Structure structure = structure_at(position_);
    // Up to the first backslash, or the end of the window.
    size_t count = std::min<size_t>(kStructureBlock, static_cast<size_t>(end_ - position_));
    if (structure.escapes != 0) {
      count = std::min(count, static_cast<size_t>(__builtin_ctzll(structure.escapes)));
    }
    const uint64_t within = count == kStructureBlock ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
    const uint64_t quotes = structure.quotes & within;
    const uint64_t outside = (in_string ? odd_up_to(quotes) : ~odd_up_to(quotes)) & within;
    for (uint64_t brackets = (structure.open | structure.close) & outside; brackets != 0;
         brackets &= brackets - 1) {
      const int next = __builtin_ctzll(brackets);
      depth += (structure.open >> next & 1) != 0 ? 1 : -1;
      if (depth == 0) {
        position_ += next + 1;
        return;
      }
    }
    in_string = in_string != (__builtin_parityll(quotes) != 0);
    position_ += count;
    if (count == kStructureBlock) continue;
    const std::ptrdiff_t escape = in_string ? 2 : 1;  // outside of a string it is no escape
    if (position_ < end_ && end_ - position_ >= escape) {
      position_ += escape;
      continue;
    }
    const bool keeping =
        keep != nullptr && *keep != nullptr && static_cast<size_t>(end_ - *keep) < window_ / 2;
    if (keep != nullptr && !keeping) *keep = nullptr;
    const char* from = keeping ? *keep : position_;
    refill_or_fail(from);
    if (keeping) *keep = from;
  }
}

void JsonReader::skip_value() {
  const char c = next_significant();
  if (position_ == end_) fail("");
  if (c == '"') {
    ++position_;
    skip_string();
  } else if (c == '{' || c == '[') {
    ++position_;
    skip_nested(1, nullptr);
  } else {
    // true, false, null, a number, or NaN as Python writes it.
    const uint64_t begin = offset();
    const char* keep = position_;
    while (true) {
      while (position_ < end_ && is_word_char(*position_)) ++position_;
      keep = position_;
      if (position_ < end_ || !refill(keep)) break;
    }
    if (offset() == begin) fail("expected a value");
  }
}

std::string_view JsonReader::raw_value() {
  const char c = next_significant();
  if (c != '{' && c != '[') {
    skip_value();
    return {};
  }
  const char* begin = position_;
  ++position_;
  skip_nested(1, &begin);
  if (begin == nullptr) return {};
  return {begin, static_cast<size_t>(position_ - begin)};
}

void JsonReader::skip_rest_of_object() {
  skip_nested(1, nullptr);
  first_in_container_ = false;
}

}  // namespace preserve::import
