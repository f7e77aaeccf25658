// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/number.h"
#include "common/split.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr std::array kKeys{
    KeyInfo{SweepKey::model, "model", ValueKind::word, "config.json, or a name of examples/models"},
    KeyInfo{SweepKey::device, "device", ValueKind::word,
            "device file, or a name of examples/devices"},
    KeyInfo{SweepKey::dtype, "dtype", ValueKind::word, "fp16, int8, fp8, int4 or fp4"},
    KeyInfo{SweepKey::tp, "tp", ValueKind::count, "tensor-parallel devices"},
    KeyInfo{SweepKey::batch, "batch", ValueKind::count, "sequences decoded together"},
    KeyInfo{SweepKey::context, "context", ValueKind::count, "tokens per sequence, as 16K"},
    KeyInfo{SweepKey::kv_heads, "kv_heads", ValueKind::count, "key-value heads of the model"},
    KeyInfo{SweepKey::l2, "l2", ValueKind::size, "cache of a device, as 104MiB"},
    KeyInfo{SweepKey::memory, "memory", ValueKind::size, "memory of a device, as 64GB"},
    KeyInfo{SweepKey::bandwidth, "bandwidth", ValueKind::rate, "of the memory, as 1600GB/s"},
    KeyInfo{SweepKey::compute, "compute", ValueKind::factor,
            "arithmetic rates over those of the device"},
    KeyInfo{SweepKey::allreduce, "allreduce", ValueKind::duration,
            "length of every collective, as 20us"},
    KeyInfo{SweepKey::network_latency, "network_latency", ValueKind::duration,
            "of an allreduce, with network_bandwidth"},
    KeyInfo{SweepKey::network_bandwidth, "network_bandwidth", ValueKind::rate,
            "of one device into the network, with network_latency"},
};

// Far above anything real, far below where products of three of them lose bits.
constexpr double kMostBytes = 1e15, kMostNs = 1e12;
constexpr double kLeastFactor = 1e-3, kMostFactor = 1e3;
constexpr int64_t kLeastCache = 256 << 10, kLeastBytes = 1 << 20;

[[noreturn]] void refuse(const KeyInfo& info, std::string_view text, std::string_view expected) {
  throw usage_error("invalid {}={}: expected {}", info.name, printable(text), expected);
}

// What a generated step may have (planner/workload).
int64_t most_of(SweepKey key) {
  if (key == SweepKey::tp) return 1 << 10;
  return key == SweepKey::context ? 1 << 27 : 1 << 20;
}

double parse_factor(const KeyInfo& info, std::string_view text) {
  const auto value = number_of<double>(text);
  if (!value || !(*value >= kLeastFactor && *value <= kMostFactor)) {
    refuse(info, text, "a factor from 0.001 to 1000");
  }
  return *value;
}

double parse_number(const KeyInfo& info, std::string_view text) {
  switch (info.kind) {
    case ValueKind::count: {
      const auto count = parse_count(text);
      if (!count || *count > most_of(info.key)) {
        refuse(info, text, fmt::format("a whole number from 1 to {}", most_of(info.key)));
      }
      return static_cast<double>(*count);
    }
    case ValueKind::rate:
      if (text.ends_with("/s")) text.remove_suffix(2);
      [[fallthrough]];
    case ValueKind::size: {
      const auto bytes = static_cast<double>(parse_size_bytes(text));
      const auto least = static_cast<double>(info.key == SweepKey::l2 ? kLeastCache : kLeastBytes);
      if (bytes < least || bytes > kMostBytes) {
        refuse(info, text,
               fmt::format("{} to 1000 TB{}", format_size(least),
                           info.kind == ValueKind::rate ? ", per second" : ""));
      }
      return bytes;
    }
    case ValueKind::duration: {
      const auto dur_ns = static_cast<double>(parse_duration_ns(text));
      if (dur_ns > kMostNs) refuse(info, text, "at most 1000s");
      return dur_ns;
    }
    case ValueKind::factor:
      return parse_factor(info, text);
    case ValueKind::word:
      break;
  }
  throw internal_error("{} has no numbers", info.name);
}

std::string number_text(const KeyInfo& info, double number) {
  return info.kind == ValueKind::factor ? fmt::format("{:g}", number)
                                        : fmt::format("{:.0f}", number);
}

void add_number(const KeyInfo& info, SweepAxis& axis, double number) {
  if (axis.numbers.size() == kMostAxisValues) {
    throw usage_error("{} has more than {} values", info.name, kMostAxisValues);
  }
  axis.numbers.push_back(number);
  axis.words.push_back(number_text(info, number));
}

// FROM:TO:log2 or FROM:TO:+STEP.
void add_range(const KeyInfo& info, SweepAxis& axis, std::string_view text) {
  constexpr std::string_view kForms =
      "FROM:TO:log2 (doubling) or FROM:TO:+STEP (adding), with FROM at most TO";
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  if (second == std::string_view::npos || text.find(':', second + 1) != std::string_view::npos) {
    refuse(info, text, kForms);
  }
  const double from = parse_number(info, text.substr(0, first));
  const double to = parse_number(info, text.substr(first + 1, second - first - 1));
  const std::string_view step = text.substr(second + 1);
  const bool doubles = step == "log2";
  if (from > to || (doubles && from <= 0) || (!doubles && !step.starts_with('+'))) {
    refuse(info, text, kForms);
  }
  const double more = doubles ? 0 : parse_number(info, step.substr(1));
  if (!doubles && more <= 0) refuse(info, text, kForms);
  // Products and sums of the first, so that a factor's rounding does not add up.
  for (double i = 0;; ++i) {
    const double value = doubles ? std::ldexp(from, static_cast<int>(i)) : from + i * more;
    if (value > to * (1 + 1e-12)) return;
    add_number(info, axis, value);
  }
}

}  // namespace

std::span<const KeyInfo> sweep_keys() {
  return kKeys;
}

const KeyInfo& info_of(SweepKey key) {
  return kKeys.at(static_cast<size_t>(key));
}

SweepAxis parse_axis(SweepKey key, std::string_view values) {
  const KeyInfo& info = info_of(key);
  SweepAxis axis{.key = key};
  for (const std::string_view item : split(values, ',')) {
    if (item.empty()) throw usage_error("{}= has an empty value", info.name);
    if (info.kind == ValueKind::word) {
      axis.words.emplace_back(item);
    } else if (item.find(':') != std::string_view::npos) {
      add_range(info, axis, item);
    } else {
      add_number(info, axis, parse_number(info, item));
    }
  }
  std::set<std::string_view> seen;
  for (const std::string& word : axis.words) {
    if (!seen.insert(word).second) {
      throw usage_error("{}= has the value {} twice", info.name, printable(word));
    }
  }
  return axis;
}

SweepAxis parse_axis(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, std::min(equals, text.size()));
  const auto found = std::ranges::find(kKeys, name, &KeyInfo::name);
  if (found == kKeys.end()) {
    std::vector<std::string> names;
    names.reserve(kKeys.size());
    for (const KeyInfo& info : kKeys) names.emplace_back(info.name);
    throw usage_error("unknown key {}: --sweep takes {}{}", printable(name), fmt::join(names, ", "),
                      did_you_mean(name, names));
  }
  if (equals == std::string_view::npos) {
    throw usage_error("--sweep {}: expected {}=VALUE,VALUE,... or a range", printable(text), name);
  }
  return parse_axis(found->key, text.substr(equals + 1));
}

}  // namespace preserve
