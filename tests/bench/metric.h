// SPDX-License-Identifier: Apache-2.0
// How every benchmark reports: one JSON object per line on stdout, which scripts/bench gathers into
// docs/performance.md. Chatter goes to stderr.
#pragma once

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/stats.h"

namespace preserve::bench {

// That a call of `work` takes.
template <typename Work>
double seconds_of(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `target` in words as the requirement states it ("at most 60 ns"), empty when there is none;
// `met`: the median reaches it. Interval: of the median, 95 %.
inline void report_metric(const std::string& area, const std::string& metric,
                          const std::string& unit, const std::vector<double>& values,
                          const std::string& target = "", bool met = true) {
  const Interval interval = median_interval(values);
  const nlohmann::ordered_json line{{"area", area},        {"metric", metric},
                                    {"unit", unit},        {"median", interval.estimate},
                                    {"low", interval.low}, {"high", interval.high},
                                    {"n", values.size()},  {"target", target},
                                    {"met", met}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

}  // namespace preserve::bench
