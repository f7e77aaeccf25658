// SPDX-License-Identifier: Apache-2.0
// One thread of a recording in the order of its records: which NVTX push/pop ranges are open, and
// which of them an MPI call lies in. Nothing of a range is kept once it is closed, so a recording
// may be of any length; who needs more than one look reads the records again. Times in ns, in
// order, never negative lengths.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

inline constexpr uint32_t kNoRange = UINT32_MAX;

struct OpenRange {
  uint32_t index = kNoRange;  // of the ranges of its thread, in the order of their starts
  uint32_t name = 0;          // StringId value
  uint32_t domain = 0;        // StringId value, 0: default domain
  int64_t start_ns = 0;
};
using OpenRanges = std::span<const OpenRange>;  // outermost first

struct TimelineCall {
  int64_t start_ns = 0, end_ns = 0;
  spool::MpiBody body{};
  uint8_t flags = 0;
  std::string_view dtype;     // points into the spool
  uint32_t range = kNoRange;  // innermost range around its start
};

class TimelineListener {
 public:
  virtual ~TimelineListener() = default;
  // The last one of `open` is new.
  virtual void opened(OpenRanges /*open*/) {}
  // open[place] ends, and leaves `open` after this.
  virtual void closed(OpenRanges /*open*/, size_t /*place*/, int64_t /*end_ns*/) {}
  virtual void called(const TimelineCall& /*call*/) {}  // at its end
};

class Timeline {
 public:
  explicit Timeline(TimelineListener& listener) : listener_(listener) {}

  // Records in order of time; a time before its predecessor is taken as the predecessor's.
  void push(int64_t ns, uint32_t name, uint32_t domain);
  // How many open ranges a pop looks through for one of its domain: a recording that never ends
  // ranges of another costs each pop no more than that.
  static constexpr size_t kMostLookedAt = 4096;
  // The innermost open range of that domain ends; false when none is open.
  bool pop(int64_t ns, uint32_t domain);
  // At its end; calls of one thread do not overlap. Sets what depends on those before.
  void call(TimelineCall& call);

  OpenRanges open() const { return open_; }
  uint32_t innermost() const { return open_.empty() ? kNoRange : open_.back().index; }
  // What pop() would end; nullptr: nothing.
  const OpenRange* innermost_of(uint32_t domain) const;

 private:
  int64_t in_order(int64_t ns);

  TimelineListener& listener_;
  std::vector<OpenRange> open_;
  uint32_t ranges_ = 0;
  int64_t last_ns_ = INT64_MIN, last_call_end_ns_ = INT64_MIN;
};

}  // namespace preserve
