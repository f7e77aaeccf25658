// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/timeline.h"

#include <algorithm>

namespace preserve {

int64_t Timeline::in_order(int64_t ns) {
  last_ns_ = std::max(last_ns_, ns);
  return last_ns_;
}

void Timeline::push(int64_t ns, uint32_t name, uint32_t domain) {
  const auto index = static_cast<uint32_t>(ranges_.size());
  TimelineRange range;
  range.start_ns = in_order(ns);
  range.name = name;
  range.domain = domain;
  range.parent = innermost();
  if (range.parent != kNoRange) ranges_[range.parent].leaf = false;
  ranges_.push_back(range);
  stack_.push_back(index);
  events_.push_back({range.start_ns, {BoundaryKind::push, index}});
}

uint32_t Timeline::pop(int64_t ns, uint32_t domain) {
  for (size_t i = stack_.size(); i-- > 0;) {
    const uint32_t index = stack_[i];
    if (ranges_[index].domain != domain) continue;
    ranges_[index].end_ns = in_order(ns);
    events_.push_back({ranges_[index].end_ns, {BoundaryKind::pop, index}});
    // Domains may be interleaved without nesting. What is still open moves up to the next range
    // that is open too, so that a parent always lasts as long as its children.
    if (i + 1 < stack_.size()) ranges_[stack_[i + 1]].parent = ranges_[index].parent;
    stack_.erase(stack_.begin() + static_cast<std::ptrdiff_t>(i));
    return index;
  }
  return kNoRange;
}

void Timeline::call(TimelineCall call) {
  call.start_ns = calls_.empty() ? call.start_ns : std::max(call.start_ns, calls_.back().end_ns);
  call.end_ns = std::max(call.start_ns, call.end_ns);
  last_ns_ = std::max(last_ns_, call.end_ns);
  // The range that was innermost when the call began, not when it ended.
  uint32_t range = innermost();
  while (range != kNoRange && ranges_[range].start_ns > call.start_ns)
    range = ranges_[range].parent;
  call.range = range;
  if (range != kNoRange) ++ranges_[range].calls;
  calls_.push_back(call);
}

void Timeline::close() {
  for (TimelineRange& range : ranges_) {
    range.depth = range.parent == kNoRange ? 0 : ranges_[range.parent].depth + 1;
  }
}

}  // namespace preserve
