// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"

#include <array>
#include <charconv>
#include <cmath>

#include "common/error.h"

namespace preserve {
namespace {

struct Unit {
  std::string_view suffix;
  double factor;
};
// Both signs for micro, U+00B5 and the Greek letter U+03BC.
constexpr std::array kDurationUnits{Unit{"ns", 1},        Unit{"us", 1e3}, Unit{"\u00b5s", 1e3},
                                    Unit{"\u03bcs", 1e3}, Unit{"ms", 1e6}, Unit{"s", 1e9}};
constexpr std::array kSizeUnits{Unit{"B", 1},
                                Unit{"", 1},
                                Unit{"K", 1024},
                                Unit{"KiB", 1024},
                                Unit{"KB", 1e3},
                                Unit{"M", 1 << 20},
                                Unit{"MiB", 1 << 20},
                                Unit{"MB", 1e6},
                                Unit{"G", 1u << 30},
                                Unit{"GiB", 1u << 30},
                                Unit{"GB", 1e9},
                                Unit{"T", 1ull << 40},
                                Unit{"TiB", 1ull << 40},
                                Unit{"TB", 1e12}};

template <size_t N>
int64_t parse_with_units(std::string_view text, const std::array<Unit, N>& units,
                         std::string_view what, std::string_view accepted) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  while (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
  if (error == std::errc() && std::isfinite(number) && number >= 0) {
    if (number == 0 && suffix.empty()) return 0;
    for (const Unit& unit : units) {
      const double value = number * unit.factor;
      if (suffix == unit.suffix && value < 9.2e18) return std::llround(value);
    }
  }
  throw usage_error("invalid {} '{}': expected a number and a unit, {}", what, text, accepted);
}

}  // namespace

int64_t parse_duration_ns(std::string_view text) {
  return parse_with_units(text, kDurationUnits, "duration", "one of ns, us, ms, s (as in 200us)");
}

int64_t parse_size_bytes(std::string_view text) {
  return parse_with_units(
      text, kSizeUnits, "size",
      "one of B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (as in 32MiB)");
}

std::string format_duration(double dur_ns) {
  const double magnitude = std::fabs(dur_ns);
  if (magnitude < 1e3) return fmt::format("{:.0f} ns", dur_ns);
  if (magnitude < 1e6) return fmt::format("{:.2f} us", dur_ns / 1e3);
  if (magnitude < 1e9) return fmt::format("{:.2f} ms", dur_ns / 1e6);
  return fmt::format("{:.2f} s", dur_ns / 1e9);
}

std::string format_size(double size_bytes) {
  const double magnitude = std::fabs(size_bytes);
  if (magnitude < 1024) return fmt::format("{:.0f} B", size_bytes);
  if (magnitude < 1024.0 * 1024) return fmt::format("{:.1f} KiB", size_bytes / 1024);
  if (magnitude < 1024.0 * 1024 * 1024) return fmt::format("{:.1f} MiB", size_bytes / (1 << 20));
  return fmt::format("{:.2f} GiB", size_bytes / (1 << 30));
}

std::string format_rate(double bytes_per_s) {
  if (bytes_per_s < 1e9) return fmt::format("{:.1f} MB/s", bytes_per_s / 1e6);
  if (bytes_per_s < 1e12) return fmt::format("{:.1f} GB/s", bytes_per_s / 1e9);
  return fmt::format("{:.2f} TB/s", bytes_per_s / 1e12);
}

std::string format_ratio(double ratio) {
  return fmt::format("{:.3f}x", ratio);
}

std::string describe_speedup(double speedup) {
  return fmt::format("{:.1f} % {}", std::fabs(speedup - 1) * 100,
                     speedup >= 1 ? "faster" : "slower");
}

std::string describe_speedup(const Interval& speedup) {
  const bool faster = speedup.low >= 1 && speedup.estimate >= 1;
  const bool slower = speedup.high <= 1 && speedup.estimate < 1;
  std::string range =
      fmt::format("{} to {}", describe_speedup(speedup.low), describe_speedup(speedup.high));
  if (faster || slower) {
    const double from = std::fabs((faster ? speedup.low : speedup.high) - 1) * 100;
    const double to = std::fabs((faster ? speedup.high : speedup.low) - 1) * 100;
    range = fmt::format("{:.1f} to {:.1f} %", from, to);
  }
  return fmt::format("{} [{}]", describe_speedup(speedup.estimate), range);
}

int64_t checked_add(int64_t a, int64_t b, std::string_view what) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) throw input_error("{} overflows: {} + {}", what, a, b);
  return sum;
}

int64_t checked_mul(int64_t a, int64_t b, std::string_view what) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product))
    throw input_error("{} overflows: {} * {}", what, a, b);
  return product;
}

}  // namespace preserve
