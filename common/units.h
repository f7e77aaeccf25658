// SPDX-License-Identifier: Apache-2.0
// Times and sizes between people and files: files hold integer ns and bytes, people write 200us and
// 32MiB. Parsing is strict (usage_error names the text and the accepted units), printing adapts.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/stats.h"

namespace preserve {

inline constexpr double kNsPerS = 1e9;

// "200us" (also µs), "1.5ms", "3s"; a bare number needs a unit unless it is 0. Never negative.
int64_t parse_duration_ns(std::string_view text);
// "32MiB" (1024), "4MB" (1000), "512K" (1024), "4096" (bytes). Never negative.
int64_t parse_size_bytes(std::string_view text);

std::string format_duration(double dur_ns);  // "12.3 us"
std::string format_size(double size_bytes);  // "4.0 MiB"
template <std::integral T>
std::string format_duration(T dur_ns) {
  return format_duration(static_cast<double>(dur_ns));
}
template <std::integral T>
std::string format_size(T size_bytes) {
  return format_size(static_cast<double>(size_bytes));
}
std::string format_rate(double bytes_per_s);  // "31.2 GB/s"
std::string format_ratio(double ratio);       // "1.142x"
// "14.2 % faster" for a speed-up of 1.142, "3.0 % slower" for 0.97; with an interval
// "14.2 % faster [13.6 to 14.9 %]", or, where it lies on both sides of 1,
// "0.4 % slower [5.7 % slower to 0.7 % faster]".
std::string describe_speedup(double speedup);
std::string describe_speedup(const Interval& speedup);

// Overflow-checked arithmetic for numbers that come from files; throws input_error naming `what`.
int64_t checked_add(int64_t a, int64_t b, std::string_view what);
int64_t checked_mul(int64_t a, int64_t b, std::string_view what);

}  // namespace preserve
