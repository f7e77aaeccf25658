// SPDX-License-Identifier: Apache-2.0
// The timeline of one thread cut at every boundary of a range or an MPI call. What each piece is
// (an operator or idle time) is decided in operators.h; this file only knows times and nesting.
//
// Ranges that begin or end inside a call (a user-defined reduction) are recorded before it and
// belong after its start, so boundaries wait for the next call: up to kMostWaiting of them, which
// is more than any call has inside.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "profiler/convert/range_rows.h"
#include "profiler/convert/tensors.h"
#include "profiler/convert/timeline.h"

namespace preserve {

// What lies at an end of a segment.
enum class BoundaryKind : uint8_t { none, push, pop, call_start, call_end };
struct Boundary {
  BoundaryKind kind = BoundaryKind::none;
  bool communicates = false;  // a call that does, and has by its end
  uint16_t function = 0;      // of a call
  uint32_t name = 0;          // of a range
  int64_t call_bytes = 0;     // of a call
};

struct SegmentRange : OpenRange {
  ModuleOfRange module{};  // whoever is told of segments may use it while the range is open
};

// [start, end) of one thread without a boundary inside, or a whole call.
struct Segment {
  int64_t start_ns, end_ns;
  std::span<SegmentRange> open;  // outermost first
  const TimelineCall* call;      // nullptr: none
  Boundary left, right;

  const SegmentRange* range() const { return open.empty() ? nullptr : &open.back(); }
};

class Segments : public TimelineListener {
 public:
  static constexpr size_t kMostWaiting = size_t{1} << 18;

  // Calls `visit` for every segment in order of time. Empty segments come only for calls and for
  // leaf ranges without calls. `shape` is of the same records.
  Segments(const ThreadShape& shape, std::function<void(const Segment&)> visit,
           size_t most_waiting = kMostWaiting)
      : shape_(shape), visit_(std::move(visit)), most_waiting_(most_waiting) {}

  void opened(OpenRanges open) override;
  void closed(OpenRanges open, size_t place, int64_t end_ns) override;
  void called(const TimelineCall& call) override;
  void finish();  // after the last record

 private:
  struct Event {
    int64_t ns;
    BoundaryKind kind;  // push or pop
    OpenRange range;
  };
  void wait(const Event& event);
  void take_first();
  uint32_t innermost() const { return open_.empty() ? kNoRange : open_.back().index; }

  const ThreadShape& shape_;
  std::function<void(const Segment&)> visit_;
  size_t most_waiting_;
  std::deque<Event> waiting_;
  std::vector<SegmentRange> open_;
  Boundary left_;
  int64_t cursor_ns_ = 0;
  bool started_ = false;
};

}  // namespace preserve
