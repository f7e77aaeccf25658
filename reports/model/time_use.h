// SPDX-License-Identifier: Apache-2.0
// trace.db -> where the time went, in one pass over the operators. Memory: the operators of one
// step, one entry per distinct name, and 8 bytes per collective (their quantiles are exact).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "db/trace_db.h"
#include "reports/model/report.h"

namespace preserve::report {

TimeUse summarise_time(const TraceDb& db);

// Attributes each moment between begin and end to one class. Operators arrive by ascending start.
class ClassSweep {
 public:
  ClassSweep(int64_t begin_ns, int64_t end_ns)
      : begin_ns_(begin_ns), end_ns_(end_ns), now_ns_(begin_ns) {}
  void add(size_t time_class, int64_t start_ns, int64_t end_ns);  // clipped to the window
  // Adds the classes and the wall time; input_error naming `sum_name` when that overflows.
  void finish(RankTime& into, std::string_view sum_name);

 private:
  struct Running {
    int64_t end_ns;
    size_t time_class;
  };
  void advance(int64_t to_ns);

  int64_t begin_ns_, end_ns_, now_ns_;
  std::vector<Running> running_;  // heap, earliest end first
  std::array<int64_t, kTimeClasses.size()> active_{};
  std::array<ClassTime, kTimeClasses.size()> classes_{};
};

}  // namespace preserve::report
