// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/segments.h"

#include <algorithm>

#include "hooks/mpi/functions.h"

namespace preserve {

void Segments::opened(OpenRanges open) {
  wait({open.back().start_ns, BoundaryKind::push, open.back()});
}

void Segments::closed(OpenRanges open, size_t place, int64_t end_ns) {
  wait({end_ns, BoundaryKind::pop, open[place]});
}

void Segments::wait(const Event& event) {
  if (waiting_.size() == most_waiting_) take_first();
  waiting_.push_back(event);
}

void Segments::called(const TimelineCall& call) {
  while (!waiting_.empty()) {
    const int64_t ns = waiting_.front().ns;
    // Of a call and a boundary at the same moment, the range that the call is in tells the order.
    const bool before = ns < call.start_ns || (ns == call.start_ns && call.range != innermost());
    if (!before) break;
    take_first();
  }
  const int64_t start_ns = started_ ? std::max(call.start_ns, cursor_ns_) : call.start_ns;
  const int64_t end_ns = std::max(start_ns, call.end_ns);
  const bool communicates = (call.flags & spool::kNonBlocking) == 0 &&
                            mpi::kFunctions[call.body.function].kind != mpi::Kind::other;
  const Boundary start{BoundaryKind::call_start, communicates, call.body.function, 0,
                       call.body.bytes};
  Boundary end = start;
  end.kind = BoundaryKind::call_end;
  if (started_ && start_ns > cursor_ns_) {
    visit_(Segment{cursor_ns_, start_ns, open_, nullptr, left_, start});
  }
  visit_(Segment{start_ns, end_ns, open_, &call, start, end});
  left_ = end;
  cursor_ns_ = end_ns;
  started_ = true;
}

void Segments::take_first() {
  const Event event = waiting_.front();
  waiting_.pop_front();
  const Boundary boundary{event.kind, false, 0, event.range.name, 0};
  // Ranges inside a call (a user-defined reduction) have no time of their own.
  const int64_t at = started_ ? std::max(event.ns, cursor_ns_) : event.ns;
  const uint32_t index = event.range.index;
  const bool whole_leaf = event.kind == BoundaryKind::pop && innermost() == index &&
                          shape_.is_leaf(index) && !shape_.calls_inside(index) &&
                          cursor_ns_ <= event.ns;
  if (started_ && (at > cursor_ns_ || whole_leaf)) {
    visit_(Segment{cursor_ns_, at, open_, nullptr, left_, boundary});
  }
  if (event.kind == BoundaryKind::push) {
    open_.push_back({event.range});
  } else {
    const auto ended = std::find_if(open_.rbegin(), open_.rend(),
                                    [index](const auto& range) { return range.index == index; });
    if (ended != open_.rend()) open_.erase(std::next(ended).base());
  }
  left_ = boundary;
  cursor_ns_ = at;
  started_ = true;
}

void Segments::finish() {
  while (!waiting_.empty()) take_first();
}

}  // namespace preserve
