// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/cache_state.h"

#include <algorithm>

#include "common/as_index.h"

namespace preserve {

double CacheState::resident_bytes(int32_t tensor, int64_t begin, int64_t end) const {
  const Fragments& fragments = tensors_[as_index(tensor)];
  double resident = 0;
  auto it = fragments.upper_bound(begin);
  if (it != fragments.begin()) --it;
  for (; it != fragments.end() && it->first < end; ++it) {
    const int64_t overlap = std::min(end, it->second.end) - std::max(begin, it->first);
    if (overlap <= 0) continue;
    const double age_bytes = clock_bytes_ - it->second.since_bytes;
    resident += static_cast<double>(overlap) * survival_at(device_, age_bytes);
  }
  return resident;
}

void CacheState::touch(int32_t tensor, int64_t begin, int64_t end, double since_bytes) {
  if (begin >= end) return;
  Fragments& fragments = tensors_[as_index(tensor)];
  auto it = fragments.lower_bound(begin);
  if (it != fragments.begin()) {
    const auto before = std::prev(it);
    const Fragment old = before->second;
    if (old.end > begin) before->second.end = begin;
    if (old.end > end) fragments.emplace(end, old);  // the middle of `before` is replaced
  }
  while (it != fragments.end() && it->first < end) {
    if (it->second.end > end) {
      fragments.emplace_hint(std::next(it), end, it->second);
      fragments.erase(it);
      break;
    }
    it = fragments.erase(it);
  }
  fragments[begin] = {end, since_bytes};
}

}  // namespace preserve
