// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/recorded_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "common/as_index.h"
#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

constexpr double kLongestStepNs = 9007199254740992.0;  // 2^53: integers stay exact in a double

void check_times(const FoldedStep& step) {
  const auto good = [](double time_ns) { return time_ns >= 0 && time_ns <= kLongestStepNs; };
  for (const StepOp& op : step.ops) {
    if (good(op.start_ns) && good(op.dur_ns)) continue;
    throw input_error("{}: operator {} ({}) starts at {} ns and lasts {} ns: record again",
                      step.trace_file, op.ordinal, printable(op.name), op.start_ns, op.dur_ns);
  }
  if (!good(step.wall_ns)) {
    throw input_error("{}: the step lasts {} ns: record again", step.trace_file, step.wall_ns);
  }
}

}  // namespace

RecordedOrder recorded_order(const FoldedStep& step) {
  check_times(step);
  const size_t count = step.ops.size();
  const auto start = [&](int32_t op) { return step.ops[as_index(op)].start_ns; };
  const auto end = [&](int32_t op) { return start(op) + step.ops[as_index(op)].dur_ns; };

  RecordedOrder order;
  order.by_end.resize(count);
  std::iota(order.by_end.begin(), order.by_end.end(), 0);
  std::vector<int32_t> by_start = order.by_end;
  std::stable_sort(by_start.begin(), by_start.end(),
                   [&](int32_t a, int32_t b) { return start(a) < start(b); });
  // Operators without duration share their end with others: start and ordinal break the tie, so
  // that of two at the same instant one comes first and they never wait for each other.
  std::sort(order.by_end.begin(), order.by_end.end(), [&](int32_t a, int32_t b) {
    return std::make_tuple(end(a), start(a), a) < std::make_tuple(end(b), start(b), b);
  });

  order.rules.resize(count);
  std::vector<int32_t> latest_of_stream(step.streams.size(), -1);
  size_t ended = 0;
  for (const int32_t op : by_start) {
    const auto before = [&](int32_t other) {
      return end(other) < start(op) ||
             (end(other) == start(op) && (start(other) < start(op) || other < op));
    };
    while (ended < count && before(order.by_end[ended])) ++ended;
    StartRule& rule = order.rules[as_index(op)];
    rule.ended = static_cast<int32_t>(ended);
    rule.gap_ns = start(op) - (ended == 0 ? 0.0 : end(order.by_end[ended - 1]));
    const int32_t stream = step.ops[as_index(op)].stream;
    if (stream < 0 || as_index(stream) >= latest_of_stream.size()) {
      throw input_error("{}: operator {} ran on stream {}, the step has {}", step.trace_file, op,
                        stream, latest_of_stream.size());
    }
    int32_t& latest = latest_of_stream[as_index(stream)];
    if (latest >= 0 && end(latest) > start(op)) {
      rule.inside = latest;
      rule.gap_ns = 0;
      rule.share = (start(op) - start(latest)) / (end(latest) - start(latest));
    }
    latest = op;
  }
  if (count > 0) order.tail_ns = std::max(0.0, step.wall_ns - end(order.by_end.back()));
  return order;
}

}  // namespace preserve
