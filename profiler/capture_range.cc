// SPDX-License-Identifier: Apache-2.0
#include "profiler/capture_range.h"

#include <charconv>
#include <cstring>

namespace preserve::cuda {
namespace {

constexpr int64_t kLongestMs = int64_t{365} * 24 * 3600 * 1000;

bool read_number(std::string_view& text, int64_t low, int64_t high, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < low || value > high) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool drop_prefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

bool CaptureRange::parse(std::string_view text) {
  *this = CaptureRange();
  CaptureRange parsed;
  const auto set_name = [&](std::string_view name) {
    if (name.empty() || name.size() > kNameBytes) return false;
    std::memcpy(parsed.name_, name.data(), name.size());
    parsed.name_bytes_ = name.size();
    return true;
  };
  bool good = false;
  if (text == "whole" || text.empty()) {
    good = true;
  } else if (text == "profiler") {
    parsed.kind_ = Kind::profiler;
    good = true;
  } else if (drop_prefix(text, "nvtx:")) {
    parsed.kind_ = Kind::nvtx;
    good = set_name(text);
  } else if (drop_prefix(text, "time:")) {
    parsed.kind_ = Kind::time;
    good = read_number(text, 0, kLongestMs, parsed.delay_ms_);
    if (good && drop_prefix(text, ":")) good = read_number(text, 1, kLongestMs, parsed.length_ms_);
    good = good && text.empty();
  } else if (drop_prefix(text, "steps:")) {
    parsed.kind_ = Kind::steps;
    int64_t every = 0;
    good = read_number(text, 1, INT32_MAX, every);
    parsed.every_ = good ? static_cast<uint64_t>(every) : 1;
    good = good &&
           (text.empty() ? set_name("decode_step*") : drop_prefix(text, ":") && set_name(text));
  }
  if (good) *this = parsed;
  return good;
}

int64_t CaptureRange::next_change_ms(int64_t elapsed_ms) const {
  if (kind_ != Kind::time) return -1;
  if (elapsed_ms < delay_ms_) return delay_ms_ - elapsed_ms;
  if (length_ms_ != 0 && elapsed_ms < delay_ms_ + length_ms_)
    return delay_ms_ + length_ms_ - elapsed_ms;
  return -1;
}

}  // namespace preserve::cuda
