// SPDX-License-Identifier: Apache-2.0
// The keys of a sweep and how their values are written.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace preserve {

// In the order of the axes of a sweep, the first outermost.
enum class SweepKey {
  model,
  device,
  dtype,
  tp,
  batch,
  context,
  kv_heads,
  l2,
  memory,
  bandwidth,
  compute,
  allreduce,
  network_latency,
  network_bandwidth,
};

enum class ValueKind { word, count, size, rate, duration, factor };

struct KeyInfo {
  SweepKey key;
  const char* name;
  ValueKind kind;
  const char* meaning;
};
std::span<const KeyInfo> sweep_keys();
const KeyInfo& info_of(SweepKey key);

// The values that one key takes, in the order given.
struct SweepAxis {
  SweepKey key = SweepKey::batch;
  std::vector<std::string> words{};  // as they stand in files: base units, "8388608"
  std::vector<double> numbers{};     // empty for words

  friend bool operator==(const SweepAxis&, const SweepAxis&) = default;
};

// "batch=1,2,4", "l2=8MiB:256MiB:log2" (doubling), "batch=8:64:+8" (adding). usage_error for an
// unknown key, a value that is none, one that is there twice, a range that is empty or has more
// than kMostAxisValues.
SweepAxis parse_axis(std::string_view text);
SweepAxis parse_axis(SweepKey key, std::string_view values);

inline constexpr size_t kMostAxisValues = 100'000;

}  // namespace preserve
