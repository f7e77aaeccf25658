// SPDX-License-Identifier: Apache-2.0
// A pull tokenizer for traces of any size: JSON text (RFC 8259) from a ByteSource through one fixed
// window, no tree, no recursion. Memory does not depend on the text: a string longer than the
// window is cut (and counted), nesting costs a counter. Strings are scanned 16 bytes at a time, and
// values that nobody asks for are passed over without being tokenized, so their inside is not
// validated.
//
// Errors are input_error with the byte offset; a text that stops is told from a wrong one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "profiler/import/byte_source.h"

namespace preserve::import {

// Some writers put it before the text; it means nothing.
inline constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

class JsonReader {
 public:
  // `file` is for messages. `window` bytes bound the longest string that is returned whole.
  JsonReader(ByteSource& source, std::string file, size_t window = kDefaultWindow);

  // First byte of the next value or bracket, white space skipped; '\0' at the end of the text.
  char peek();
  // Objects: begin_object(), then next_key() until false. Arrays: begin_array(), next_element().
  void begin_object() { expect('{'); }
  void begin_array() { expect('['); }
  // The key is valid until the next key (cut at kKeyLimit: no key of interest is longer). After
  // true, exactly one value must be read or skipped.
  bool next_key(std::string_view& key);
  // `may_end`: the text may end between two elements, as Chrome's array of events may.
  bool next_element(bool may_end = false);

  // A string value, escapes resolved; valid until the next call. Cut at the window.
  std::string_view string();
  // A decimal number, plain or in quotes, as whole part and thousandths (both negative for negative
  // numbers), exact: a time stamp in µs with ns after the point. false when the value is not a
  // number that fits.
  bool decimal(int64_t& whole, int& thousandths);
  // An integer; a fraction is cut off. false when the value is not a number that fits.
  bool integer(int64_t& value);
  // Passes over any value; returns whether it was whole (true unless the text ended).
  void skip_value();
  // Passes over any value and returns its text, empty when it is longer than half the window.
  std::string_view raw_value();
  // Passes over what is left of an object of which nothing or whole members were read.
  void skip_rest_of_object();

  uint64_t offset() const {  // bytes of text consumed
    return consumed_before_ + static_cast<uint64_t>(position_ - buffer_.get());
  }
  uint64_t strings_cut() const { return strings_cut_; }

  static constexpr size_t kDefaultWindow = 512 << 10;
  static constexpr size_t kKeyLimit = 64;

 private:
  // At the end of the text nothing is wrong but that.
  [[noreturn]] void fail(std::string_view what);
  void expect(char bracket);
  // Between two tokens mostly lies nothing, or a space.
  char next_significant() {
    if (position_ < end_ && is_token(*position_)) return *position_;
    if (end_ - position_ > 1 && *position_ == ' ' && is_token(position_[1])) return *++position_;
    return next_after_space();
  }
  // No white space and not of kByteOrderMark.
  static bool is_token(char c) { return static_cast<signed char>(c) > ' '; }
  char next_after_space();
  bool refill(const char*& keep);
  void refill_or_fail(const char*& keep);
  void skip_string();
  void skip_nested(int64_t depth, const char** keep);
  std::string_view unescaped(std::string_view raw);
  std::string_view number_text();
  bool short_key(std::string_view& key);

  ByteSource& source_;
  std::string file_;
  size_t window_;
  std::unique_ptr<char[]> buffer_;
  const char* position_;
  const char* end_;
  uint64_t consumed_before_ = 0;  // bytes of text that have left the window
  uint64_t strings_cut_ = 0;
  bool first_in_container_ = true;
  std::string scratch_;
  std::array<char, kKeyLimit> key_{};
};

}  // namespace preserve::import
