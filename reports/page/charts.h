// SPDX-License-Identifier: Apache-2.0
// One function per picture of the report, each from the Report value to SVG text. At most
// kChartElements shapes each: a wider step is gathered into as many columns. Internal to the
// library.
#pragma once

#include <cstdint>
#include <string>

#include "reports/model/report.h"

namespace preserve::report {

inline constexpr size_t kChartElements = 4000;

std::string class_chart(const TimeUse& use);               // stacked bar per rank
std::string collective_chart(const TimeUse& use);          // p10..p90 with median per group
std::string operator_chart(const TimeUse& use);            // total time, the first dozen names
std::string arms_chart(const Measured& measured);          // interval per arm
std::string distribution_chart(const Measured& measured);  // samples per arm
std::string drift_chart(const Measured& measured);         // paired ratios over time
std::string window_chart(const PlanView& plan);            // used over capacity per window
std::string cache_chart(const Step& step, const PlanView& plan);  // occupancy over the step

// Operators, collectives and, per scenario, the prefetches under their windows, between two moments
// of the folded step.
std::string timeline_chart(const Report& report, int64_t from_ns, int64_t to_ns);
// The two ends of a close-up: about two layers around the window with the largest predicted saving.
struct TimeRange {
  int64_t from_ns = 0, to_ns = 0;
};
TimeRange close_up(const Report& report);

// CSS class of a time class or operator kind ("k-compute").
std::string kind_class(const std::string& kind);

}  // namespace preserve::report
