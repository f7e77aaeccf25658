// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/tick_clock.h"

#include <algorithm>
#include <cmath>

namespace preserve {
namespace {

// Further outside the anchors than this nothing was recorded: flush periods are at most an hour.
constexpr double kSlackNs = 2 * 3600e9;

// CLOCK_MONOTONIC begins at 0 with the machine: 18 years. Far enough from the end of int64_t for
// every sum of a few such times.
constexpr int64_t kLatestNs = int64_t{1} << 59;

}  // namespace

TickClock::TickClock(spool::Clock kind, std::vector<Anchor> anchors) : kind_(kind) {
  std::ranges::sort(anchors, {}, &Anchor::ticks);
  for (const Anchor& anchor : anchors) {
    if (anchor.ns < 0 || anchor.ns > kLatestNs) {
      ++impossible_;
      continue;
    }
    const bool rises = anchors_.empty() ||
                       (anchor.ticks > anchors_.back().ticks && anchor.ns > anchors_.back().ns);
    if (rises) anchors_.push_back(anchor);
  }
  if (anchors_.empty()) anchors_.push_back({0, 0});
  const Anchor& first = anchors_.front();
  const Anchor& last = anchors_.back();
  if (kind_ == spool::Clock::tsc && anchors_.size() > 1) {
    ns_per_tick_ =
        static_cast<double>(last.ns - first.ns) / static_cast<double>(last.ticks - first.ticks);
  }
}

std::optional<int64_t> TickClock::ns(uint64_t ticks) const {
  size_t segment = hint_;
  const size_t last = anchors_.size() - 1;
  if (segment > last || anchors_[segment].ticks > ticks ||
      (segment < last && anchors_[segment + 1].ticks <= ticks)) {
    const auto above = std::ranges::upper_bound(anchors_, ticks, {}, &Anchor::ticks);
    segment = above == anchors_.begin() ? 0 : static_cast<size_t>(above - anchors_.begin()) - 1;
    hint_ = segment;
  }
  const Anchor& base = anchors_[segment];
  double scale = ns_per_tick_;
  if (kind_ == spool::Clock::tsc && segment < last && ticks >= base.ticks) {
    const Anchor& next = anchors_[segment + 1];
    scale = static_cast<double>(next.ns - base.ns) / static_cast<double>(next.ticks - base.ticks);
  }
  const double distance = ticks >= base.ticks ? static_cast<double>(ticks - base.ticks)
                                              : -static_cast<double>(base.ticks - ticks);
  const double offset = distance * scale;
  const bool outside = (segment == last && offset > kSlackNs) || offset < -kSlackNs;
  if (outside || !std::isfinite(offset)) return std::nullopt;
  return base.ns + std::llround(offset);
}

}  // namespace preserve
