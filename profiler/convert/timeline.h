// SPDX-License-Identifier: Apache-2.0
// One thread of a recording as a timeline: its NVTX push/pop ranges as a tree and its MPI calls,
// cut into segments at every boundary. What each segment is (an operator or idle time) is decided
// in operators.h; this file only knows times and nesting. Times in ns, in order, never negative
// lengths.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

inline constexpr uint32_t kNoRange = UINT32_MAX;
inline constexpr int64_t kOpenEnd = INT64_MAX;

struct TimelineRange {
  int64_t start_ns = 0;
  int64_t end_ns = kOpenEnd;   // kOpenEnd: the recording ended first
  uint32_t name = 0;           // StringId value
  uint32_t domain = 0;         // StringId value, 0: default domain
  uint32_t parent = kNoRange;  // index, always smaller than its own
  uint32_t depth = 0;
  uint32_t calls = 0;  // MPI calls directly inside
  bool leaf = true;    // no range inside
};

struct TimelineCall {
  int64_t start_ns = 0, end_ns = 0;
  spool::MpiBody body{};
  uint8_t flags = 0;
  std::string_view dtype;     // points into the spool
  uint32_t range = kNoRange;  // innermost range around its start
};

// What lies at an end of a segment.
enum class BoundaryKind : uint8_t { none, push, pop, call_start, call_end };
struct Boundary {
  BoundaryKind kind = BoundaryKind::none;
  uint32_t index = 0;  // of the range or the call
};

// [start, end) of one thread without a boundary inside, or a whole call.
struct Segment {
  int64_t start_ns, end_ns;
  uint32_t range;  // innermost, kNoRange outside of all
  bool is_call;    // then left.index is the call
  Boundary left, right;
};

class Timeline {
 public:
  // Records in order of time; a time before its predecessor is taken as the predecessor's.
  void push(int64_t ns, uint32_t name, uint32_t domain);
  // The innermost open range of that domain ends; its index, kNoRange when none is open.
  uint32_t pop(int64_t ns, uint32_t domain);
  void call(TimelineCall call);  // at its end; calls of one thread do not overlap
  // After the last record: depths, leaves, calls per range.
  void close();

  uint32_t innermost() const { return stack_.empty() ? kNoRange : stack_.back(); }
  const std::vector<TimelineRange>& ranges() const { return ranges_; }
  const std::vector<TimelineCall>& calls() const { return calls_; }

  // Calls `visit(const Segment&)` for every segment in order of time, after close(). Empty segments
  // come only for calls and for leaf ranges without calls.
  template <typename Visit>
  void for_each_segment(Visit visit) const;

 private:
  struct Event {
    int64_t ns;
    Boundary boundary;
  };
  int64_t in_order(int64_t ns);

  std::vector<TimelineRange> ranges_;
  std::vector<TimelineCall> calls_;
  std::vector<Event> events_;    // pushes and pops
  std::vector<uint32_t> stack_;  // open ranges
  int64_t last_ns_ = INT64_MIN;
};

template <typename Visit>
void Timeline::for_each_segment(Visit visit) const {
  std::vector<uint32_t> open;
  Boundary left;
  int64_t cursor = 0;
  bool started = false;
  size_t next_call = 0;
  const auto innermost_open = [&open] { return open.empty() ? kNoRange : open.back(); };
  const auto run_call = [&](uint32_t index) {
    const TimelineCall& call = calls_[index];
    const int64_t start_ns = started && call.start_ns < cursor ? cursor : call.start_ns;
    const int64_t end_ns = call.end_ns < start_ns ? start_ns : call.end_ns;
    const uint32_t range = innermost_open();
    if (started && start_ns > cursor) {
      visit(Segment{cursor, start_ns, range, false, left, {BoundaryKind::call_start, index}});
    }
    visit(Segment{start_ns,
                  end_ns,
                  range,
                  true,
                  {BoundaryKind::call_start, index},
                  {BoundaryKind::call_end, index}});
    left = {BoundaryKind::call_end, index};
    cursor = end_ns;
    started = true;
  };
  for (const Event& event : events_) {
    while (next_call < calls_.size() && calls_[next_call].start_ns <= event.ns) {
      // Of a call and a boundary at the same moment, the range that the call is in tells the order.
      const bool after =
          calls_[next_call].start_ns == event.ns && calls_[next_call].range != innermost_open();
      if (after) break;
      run_call(static_cast<uint32_t>(next_call++));
    }
    const uint32_t range = innermost_open();
    // Ranges inside a call (a user-defined reduction) have no time of their own.
    const int64_t at = started && event.ns < cursor ? cursor : event.ns;
    const bool whole_leaf = event.boundary.kind == BoundaryKind::pop &&
                            range == event.boundary.index && ranges_[range].leaf &&
                            ranges_[range].calls == 0 && cursor <= event.ns;
    if (started && (at > cursor || whole_leaf))
      visit(Segment{cursor, at, range, false, left, event.boundary});
    if (event.boundary.kind == BoundaryKind::push) {
      open.push_back(event.boundary.index);
    } else {
      for (size_t i = open.size(); i-- > 0;) {
        if (open[i] != event.boundary.index) continue;
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
    }
    left = event.boundary;
    cursor = at;
    started = true;
  }
  while (next_call < calls_.size()) run_call(static_cast<uint32_t>(next_call++));
}

}  // namespace preserve
