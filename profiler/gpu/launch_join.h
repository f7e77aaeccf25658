// SPDX-License-Identifier: Apache-2.0
// The one rule by which an activity of a GPU finds the call that made it run, for spools and for
// traces of other profilers: the same correlation id. Ids are reused by the driver: the last call
// with that id before the activity counts; without one, a call that seems to come a little later,
// as far as clocks may differ. Both sides are sorted and merged, on disk where they are many.
#pragma once

#include <cstdint>
#include <tuple>

#include "profiler/gpu/record_sorter.h"

namespace preserve::gpu {

// GPU times are interpolated and may seem to precede the call that made them.
inline constexpr int64_t kClockSlackNs = 1'000'000;

// Both types are trivially copyable and have `correlation` (0: none) and `start_ns`.
template <typename Activity, typename Launch>
class LaunchJoin {
 public:
  void add(const Activity& activity) { activities_.add(activity); }
  void add(const Launch& launch) { launches_.add(launch); }
  size_t activities() const { return activities_.size(); }

  // Once: visit(Activity& activity, const Launch* launch, bool same) for every activity, by id and
  // time. `launch` is nullptr when no call is known; `same`: as of the activity before, which has
  // the same id.
  template <typename Visit>
  void run(Visit visit) {
    activities_.sort();
    launches_.sort();
    Launch next{}, launch{};
    bool more = launches_.next(next), found = false, first = true;
    int64_t id = 0;
    for (Activity activity{}; activities_.next(activity);) {
      bool same = !first && activity.correlation == id && id != 0;
      first = false;
      if (!same) found = false;
      id = activity.correlation;
      while (more && next.correlation < id) more = launches_.next(next);
      const auto take_until = [&](int64_t latest_ns) {
        if (id == 0 || !more || next.correlation != id || next.start_ns > latest_ns) return false;
        launch = next;
        found = true;
        same = false;
        more = launches_.next(next);
        return true;
      };
      while (take_until(activity.start_ns)) {
      }
      if (!found) take_until(activity.start_ns + kClockSlackNs);
      visit(activity, found ? &launch : nullptr, same);
    }
  }

 private:
  struct ByCorrelation {
    template <typename Record>
    bool operator()(const Record& a, const Record& b) const {
      return std::tie(a.correlation, a.start_ns) < std::tie(b.correlation, b.start_ns);
    }
  };
  RecordSorter<Activity, ByCorrelation> activities_;
  RecordSorter<Launch, ByCorrelation> launches_;
};

}  // namespace preserve::gpu
