// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/touches.h"

#include <algorithm>

namespace preserve {
namespace {

constexpr uint64_t kMostPageBytes = 64 << 10;  // the edges of an allocation that share pages

bool is_whole(const Touch& touch, const Tensors::Mapped& allocation) {
  return touch.bytes + 2 * kMostPageBytes > allocation.bytes;
}

}  // namespace

Touches::Touches(std::span<const Touch> touches, std::span<const Tensors::Mapped> mapped)
    : touches_(touches) {
  if (touches.empty()) return;
  for (const Tensors::Mapped& region : mapped) {
    if (!region.is_allocation) continue;
    by_base_.push_back(&region);
    most_bytes_ = std::max(most_bytes_, region.bytes);
  }
  std::sort(by_base_.begin(), by_base_.end(),
            [](const auto* a, const auto* b) { return a->base < b->base; });
}

const Tensors::Mapped* Touches::find(const Touch& touch) const {
  const auto after = std::upper_bound(
      by_base_.begin(), by_base_.end(), touch.begin,
      [](uint64_t address, const Tensors::Mapped* region) { return address < region->base; });
  for (auto at = after; at != by_base_.begin();) {
    const Tensors::Mapped& region = **--at;
    if (touch.begin - region.base >= most_bytes_) return nullptr;
    if (touch.begin - region.base < region.bytes && region.from_ns <= touch.ns &&
        touch.ns < region.to_ns) {
      return &region;
    }
  }
  return nullptr;
}

std::vector<Touches::Access> Touches::between(int64_t start_ns, int64_t end_ns) const {
  const auto before = [](const Touch& touch, int64_t ns) { return touch.ns < ns; };
  const auto first = std::lower_bound(touches_.begin(), touches_.end(), start_ns, before);
  const auto last = std::lower_bound(first, touches_.end(), end_ns, before);
  std::vector<Access> accesses;
  for (auto touch = first; touch != last; ++touch) {
    const Tensors::Mapped* allocation = find(*touch);
    if (allocation == nullptr) continue;
    const AccessMode mode = touch->write ? AccessMode::write : AccessMode::read;
    const bool whole = is_whole(*touch, *allocation);
    const uint64_t offset_bytes = whole ? 0 : touch->begin - allocation->base;
    const uint64_t bytes = whole ? allocation->bytes : touch->bytes;
    const auto known = std::find_if(accesses.begin(), accesses.end(), [&](const Access& access) {
      return access.tensor == allocation->row && access.mode == mode;
    });
    if (known == accesses.end()) {
      accesses.push_back({allocation->row, mode, offset_bytes, bytes,
                          whole ? kWholeConfidence : kPiecesConfidence});
    } else if (!whole) {  // a gap between pieces is small, or prefetching the tensor is hopeless
      const uint64_t end = std::max(known->offset_bytes + known->bytes, offset_bytes + bytes);
      known->offset_bytes = std::min(known->offset_bytes, offset_bytes);
      known->bytes = std::min(known->bytes + bytes, end - known->offset_bytes);
    }
  }
  return accesses;
}

}  // namespace preserve
