// SPDX-License-Identifier: Apache-2.0
// What the cache is expected to hold while a step is simulated. The age of bytes is the amount of
// other bytes touched since (the stack distance of a least-recently-used cache); the device's
// survival curve turns an age into the share that is still there: a soft edge, no sets and ways.
// Sizes are doubles: expectations, and sums of hostile sizes must not overflow.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/schedule/device.h"

namespace preserve {

class CacheState {
 public:
  // What was fetched and has not been read counts as `waiting_age` times as old as it is.
  CacheState(const DeviceModel& device, size_t tensors, double waiting_age);

  // The clock of ages: bytes touched since the beginning. What is prefetched and then read counts
  // once, when it is prefetched.
  double clock_bytes() const { return clock_bytes_; }
  void pass(double bytes) { clock_bytes_ += bytes; }

  // Expected bytes of [begin, end) of a tensor that are still cached.
  double resident_bytes(int32_t tensor, int64_t begin, int64_t end) const;
  // clock_bytes() when a byte as old as byte `at` of a tensor was touched; -infinity: never.
  double touched_at(int32_t tensor, int64_t at) const;
  // [begin, end) is in the cache, with the age it has had since clock_bytes() was `since_bytes`.
  void touch(int32_t tensor, int64_t begin, int64_t end, double since_bytes) {
    touch(tensor, {begin, end, since_bytes, kRead});
  }
  // What was fetched has not been read: others that were fetched before it and are read meanwhile
  // are touched after it. Those fetched after it were counted then.
  void fetch(int32_t tensor, int64_t begin, int64_t end, double since_bytes, double since_reread) {
    touch(tensor, {begin, end, since_bytes, since_reread});
    waiting_.push_back(tensor);
  }
  double reread_bytes() const { return reread_bytes_; }
  // Of what was fetched when clock_bytes() was fetched_at(), `bytes` are still cached, and have
  // been read.
  double fetched_at(int32_t tensor, int64_t at) const;
  void reread(double fetched_at, double bytes);

  // All that later reads can tell of the cache. Ages at which the survival curve is flat are alike,
  // and what is as old as the last of them is left out where nothing survives it.
  struct Held {
    int32_t tensor = 0;
    int64_t begin = 0, end = 0;
    double age_bytes = 0;
    double fetched_bytes = 0;  // of what waits to be read: its age without what was read meanwhile
  };
  std::vector<Held> held() const;

 private:
  static constexpr double kRead = -1;
  struct Fragment {
    int64_t begin = 0, end = 0;
    double since_bytes = 0;
    double since_reread = kRead;
    bool is_read() const { return since_reread < 0; }
  };
  double age_of(const Fragment& fragment) const;
  const Fragment* find(int32_t tensor, int64_t at) const;
  void touch(int32_t tensor, const Fragment& touched);
  using Fragments = std::vector<Fragment>;  // by begin, disjoint; rarely more than three

  double survival(double age_bytes) const {
    return age_bytes > oldest_bytes_ ? last_ : survival_at(*device_, age_bytes);
  }

  const DeviceModel* device_;
  double waiting_age_ = 1;
  double oldest_bytes_ = 0, last_ = 0;  // from that age on the curve is flat
  std::vector<Fragments> tensors_;
  std::vector<int32_t> waiting_;  // tensors of which something may wait to be read
  double clock_bytes_ = 0, reread_bytes_ = 0;
};

}  // namespace preserve
