// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/range_projection.h"

#include <algorithm>

#include "profiler/convert/cuda/rows.h"

namespace preserve::cuda {
namespace {

constexpr size_t kMostDepth = 200;  // of nested ranges that are followed and projected

}  // namespace

// Parents come first, or the table is wrong.
uint32_t RangeProjection::parent_of(uint32_t range) const {
  const uint32_t parent = host_[range - 1].parent;
  return parent < range ? parent : 0;
}

// A step that captures and then replays has both inside one decode_step: it is not another one.
bool RangeProjection::around_replay(uint32_t range, uint32_t around) const {
  for (size_t depth = 0; around != 0 && depth < kMostDepth; around = parent_of(around), ++depth) {
    if (host_[around - 1].name == host_[range - 1].name) return true;
  }
  return false;
}

RangeProjection::Place RangeProjection::place(const Activity& activity) {
  const auto range_of = [&](uint32_t launch) {
    const uint32_t range = launch == kNone ? 0 : run_.launches[launch].range;
    return range <= host_.size() ? range : 0;
  };
  Place place{range_of(activity.launch), 0};
  if (activity.origin == kNone || activity.origin == activity.launch) return place;
  // Replays of one graph are told apart by their launch; without one the capture stands for all.
  const uint32_t replay = activity.launch == kNone ? 0 : activity.launch + 1;
  const int64_t gpu = run_.streams[activity.stream].device;
  path_.clear();
  uint32_t range = range_of(activity.origin);
  for (; range != 0 && path_.size() < kMostDepth; range = parent_of(range)) {
    const auto known = index_.find({range, replay, gpu});
    if (known != index_.end()) {
      place.projected = known->second;
      break;
    }
    if (!around_replay(range, place.host)) path_.push_back(range);
  }
  const Projected* known = place.projected == 0 ? nullptr : &ranges_[place.projected - 1];
  const bool cut = known == nullptr ? range != 0 : known->cut;
  uint32_t depth = known == nullptr ? 0 : known->depth;
  for (; !path_.empty() && depth < kMostDepth; path_.pop_back()) {
    ranges_.push_back({path_.back(), activity.stream, place.projected, place.host, ++depth, cut});
    place.projected = static_cast<uint32_t>(ranges_.size());
    index_.emplace(Key{path_.back(), replay, gpu}, place.projected);
  }
  placed_ += place.projected != 0 ? 1 : 0;
  too_deep_ += cut || !path_.empty() ? 1 : 0;
  for (uint32_t i = place.projected; i != 0; i = ranges_[i - 1].parent) {
    Projected& around = ranges_[i - 1];
    around.start_ns = std::min(around.start_ns, activity.start_ns);
    around.end_ns = std::max(around.end_ns, activity.end_ns);
  }
  return place;
}

GrowingArray<RangeId> RangeProjection::write(TraceDb& db,
                                             const std::vector<StreamId>& streams) const {
  GrowingArray<RangeId> rows;
  GrowingArray<int64_t> depths;
  for (const Projected& range : ranges_) {
    const HostRange& host = host_[range.host - 1];
    RangeRow row{.stream = streams[range.stream],
                 .kind = RangeKind::start_end,  // modules overlap where kernels do
                 .domain = host.domain,
                 .name = host.name,
                 .start_ns = range.start_ns,
                 .end_ns = range.end_ns};
    if (range.parent != 0) {
      row.parent = rows[range.parent - 1];
      row.depth = depths[range.parent - 1] + 1;
    } else if (range.around != 0) {
      row.parent = host_[range.around - 1].row;
      row.depth = host_[range.around - 1].depth + 1;
    }
    rows.push_back(db.add(row));
    depths.push_back(row.depth);
  }
  if (too_deep_ > 0) {
    db.add_loss({}, "cuda_graph_range", "received", placed_);
    db.add_loss({}, "cuda_graph_range", "written", placed_ - too_deep_);
    db.add_loss({}, "cuda_graph_range", "too_deep", too_deep_);
  }
  return rows;
}

}  // namespace preserve::cuda
