// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/cache_state.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>

#include "common/as_index.h"

namespace preserve {

CacheState::CacheState(const DeviceModel& device, size_t tensors, double waiting_age)
    : device_(&device), waiting_age_(waiting_age), tensors_(tensors) {
  const bool measured = !device.survival.empty();
  oldest_bytes_ = static_cast<double>(measured ? device.survival.back().footprint_bytes
                                               : device.cache_budget_bytes);
  last_ = measured ? device.survival.back().hit_fraction : 0;
}

double CacheState::age_of(const Fragment& fragment) const {
  const double age_bytes = clock_bytes_ - fragment.since_bytes;
  if (fragment.is_read()) return age_bytes;
  return waiting_age_ * (age_bytes + reread_bytes_ - fragment.since_reread);
}

double CacheState::resident_bytes(int32_t tensor, int64_t begin, int64_t end) const {
  double resident = 0;
  for (const Fragment& fragment : tensors_[as_index(tensor)]) {
    const int64_t overlap = std::min(end, fragment.end) - std::max(begin, fragment.begin);
    if (overlap <= 0) continue;
    resident += static_cast<double>(overlap) * survival(age_of(fragment));
  }
  return resident;
}

const CacheState::Fragment* CacheState::find(int32_t tensor, int64_t at) const {
  for (const Fragment& fragment : tensors_[as_index(tensor)]) {
    if (fragment.begin <= at && at < fragment.end) return &fragment;
  }
  return nullptr;
}

double CacheState::touched_at(int32_t tensor, int64_t at) const {
  const Fragment* fragment = find(tensor, at);
  if (fragment == nullptr) return -std::numeric_limits<double>::infinity();
  const double reread_bytes = fragment->is_read() ? 0 : reread_bytes_ - fragment->since_reread;
  return fragment->since_bytes - reread_bytes;
}

double CacheState::fetched_at(int32_t tensor, int64_t at) const {
  const Fragment* fragment = find(tensor, at);
  return fragment == nullptr ? clock_bytes_ : fragment->since_bytes;
}

void CacheState::reread(double fetched_at, double bytes) {
  if (bytes <= 0) return;
  reread_bytes_ += bytes;
  const auto waits = [&](int32_t fetched) {
    bool any = false;
    for (Fragment& fragment : tensors_[as_index(fetched)]) {
      if (fragment.is_read()) continue;
      any = true;
      if (fragment.since_bytes < fetched_at) fragment.since_reread += bytes;
    }
    return any;
  };
  // Of each tensor once, however often it was fetched.
  std::sort(waiting_.begin(), waiting_.end());
  waiting_.erase(std::unique(waiting_.begin(), waiting_.end()), waiting_.end());
  waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(),
                                [&](int32_t fetched) { return !waits(fetched); }),
                 waiting_.end());
}

void CacheState::touch(int32_t tensor, const Fragment& touched) {
  const int64_t begin = touched.begin, end = touched.end;
  if (begin >= end) return;
  Fragments& fragments = tensors_[as_index(tensor)];
  if (fragments.empty() || (begin <= fragments.front().begin && fragments.back().end <= end)) {
    fragments.resize(1);
    fragments[0] = touched;
    return;
  }
  const auto first =
      std::find_if(fragments.begin(), fragments.end(),
                   [begin](const Fragment& fragment) { return fragment.end > begin; });
  const auto last = std::find_if(first, fragments.end(),
                                 [end](const Fragment& fragment) { return fragment.begin >= end; });
  // What remains of those that are replaced in part, around the new one.
  Fragment parts[3];
  size_t count = 0;
  if (first != last && first->begin < begin)
    parts[count++] = {first->begin, begin, first->since_bytes, first->since_reread};
  parts[count++] = touched;
  if (first != last && std::prev(last)->end > end) {
    const Fragment& rest = *std::prev(last);
    parts[count++] = {end, rest.end, rest.since_bytes, rest.since_reread};
  }
  const auto replaced = std::min(count, as_index(last - first));
  std::copy(parts, parts + replaced, first);
  if (replaced < count) {
    fragments.insert(first + static_cast<std::ptrdiff_t>(replaced), parts + replaced,
                     parts + count);
  } else {
    fragments.erase(first + static_cast<std::ptrdiff_t>(count), last);
  }
}

std::vector<CacheState::Held> CacheState::held() const {
  std::vector<Held> held;
  for (size_t tensor = 0; tensor < tensors_.size(); ++tensor) {
    for (const Fragment& fragment : tensors_[tensor]) {
      double age_bytes = age_of(fragment);
      double fetched_bytes = fragment.is_read() ? 0 : clock_bytes_ - fragment.since_bytes;
      if (age_bytes > oldest_bytes_) {
        if (last_ <= 0) continue;
        age_bytes = oldest_bytes_;
        fetched_bytes = 0;
      }
      held.push_back(
          {static_cast<int32_t>(tensor), fragment.begin, fragment.end, age_bytes, fetched_bytes});
    }
  }
  return held;
}

}  // namespace preserve
