// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/touches.h"

#include <algorithm>
#include <map>
#include <utility>

namespace preserve {
namespace {

constexpr uint64_t kMostPageBytes = 64 << 10;  // the edges of an allocation that share pages

bool is_whole(const Touch& touch, const Tensors::Mapped& allocation) {
  return touch.bytes + 2 * kMostPageBytes > allocation.bytes;
}

}  // namespace

std::vector<Touches::Access> Touches::between(int64_t start_ns, int64_t end_ns) const {
  const auto before = [](const Touch& touch, int64_t ns) { return touch.ns < ns; };
  const auto first = std::lower_bound(touches_.begin(), touches_.end(), start_ns, before);
  const auto last = std::lower_bound(first, touches_.end(), end_ns, before);
  std::vector<Access> accesses;
  std::map<std::pair<int64_t, bool>, size_t> places;  // of `accesses`, by tensor and direction
  for (auto touch = first; touch != last; ++touch) {
    const Tensors::Mapped* allocation = touched_[static_cast<size_t>(touch - touches_.begin())];
    if (allocation == nullptr) continue;
    const bool whole = is_whole(*touch, *allocation);
    const uint64_t offset_bytes = whole ? 0 : touch->begin - allocation->base;
    const uint64_t bytes = whole ? allocation->bytes : touch->bytes;
    const auto [place, fresh] =
        places.try_emplace({allocation->row.value, touch->write}, accesses.size());
    if (fresh) {
      accesses.push_back({allocation->row, touch->write ? AccessMode::write : AccessMode::read,
                          offset_bytes, bytes, whole ? kWholeConfidence : kPiecesConfidence});
    } else if (!whole) {  // a gap between pieces is small, or prefetching the tensor is hopeless
      Access& known = accesses[place->second];
      const uint64_t end = std::max(known.offset_bytes + known.bytes, offset_bytes + bytes);
      known.offset_bytes = std::min(known.offset_bytes, offset_bytes);
      known.bytes = std::min(known.bytes + bytes, end - known.offset_bytes);
    }
  }
  return accesses;
}

}  // namespace preserve
