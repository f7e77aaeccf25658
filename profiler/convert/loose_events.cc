// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/loose_events.h"

#include <algorithm>
#include <optional>

namespace preserve {

void LooseEvents::count(const LooseEvent& event) {
  const int64_t order = order_++;
  if (event.type == spool::RecordType::range_start) starts_.add({event.id, order});
  if (event.type != spool::RecordType::range_end) return;
  ends_.add({event.id, order, event.ns});
  ++ends_seen_;
}

// Of several with one number the first start has the first end.
void LooseEvents::join() {
  starts_.sort();
  ends_.sort();
  End end{};
  bool more = ends_.next(end);
  std::optional<uint64_t> last;
  for (Start start{}; starts_.next(start); last = start.id) {
    if (last == start.id) continue;
    while (more && end.id < start.id) more = ends_.next(end);
    if (!more || end.id != start.id) continue;
    matched_.add({start.order, end.ns});
    ++ends_used_;
  }
  matched_.sort();
  order_ = 0;
  more_ = matched_.next(next_);
}

void LooseEvents::add_row(const LooseEvent& event, StreamId stream, RangeId around, int64_t depth,
                          TraceDb& db) {
  const int64_t order = order_++;
  if (event.type == spool::RecordType::range_end) return;
  const bool mark = event.type == spool::RecordType::mark;
  RangeRow row{.stream = stream,
               .parent = around,
               .kind = mark ? RangeKind::mark : RangeKind::start_end,
               .domain = StringId{event.domain},
               .name = StringId{event.name},
               .depth = depth,
               .start_ns = event.ns,
               .payload = event.payload};
  if (mark) row.end_ns = event.ns;
  if (more_ && next_.order == order) {
    row.end_ns = std::max(event.ns, next_.end_ns);
    more_ = matched_.next(next_);
  }
  db.add(row);
  ++rows_;
}

}  // namespace preserve
