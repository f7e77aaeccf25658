// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/timeline.h"

#include <algorithm>

namespace preserve {

int64_t Timeline::in_order(int64_t ns) {
  last_ns_ = std::max(last_ns_, ns);
  return last_ns_;
}

void Timeline::push(int64_t ns, uint32_t name, uint32_t domain) {
  open_.push_back({ranges_++, name, domain, in_order(ns)});
  listener_.opened(open_);
}

const OpenRange* Timeline::innermost_of(uint32_t domain) const {
  const auto end =
      open_.rbegin() + static_cast<std::ptrdiff_t>(std::min(open_.size(), kMostLookedAt));
  const auto found = std::find_if(
      open_.rbegin(), end, [domain](const OpenRange& range) { return range.domain == domain; });
  return found == end ? nullptr : &*found;
}

// Domains may be interleaved without nesting: then a range in the middle ends.
bool Timeline::pop(int64_t ns, uint32_t domain) {
  const OpenRange* range = innermost_of(domain);
  if (range == nullptr) return false;
  const auto place = range - open_.data();
  listener_.closed(open_, static_cast<size_t>(place), in_order(ns));
  open_.erase(open_.begin() + place);
  return true;
}

void Timeline::call(TimelineCall& call) {
  call.start_ns = std::max(call.start_ns, last_call_end_ns_);
  call.end_ns = std::max(call.start_ns, call.end_ns);
  last_call_end_ns_ = call.end_ns;
  last_ns_ = std::max(last_ns_, call.end_ns);
  // The range that was innermost when the call began, not when it ended.
  const auto after = std::ranges::upper_bound(open_, call.start_ns, {}, &OpenRange::start_ns);
  call.range = after == open_.begin() ? kNoRange : (after - 1)->index;
  listener_.called(call);
}

}  // namespace preserve
