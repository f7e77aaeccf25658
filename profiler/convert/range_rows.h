// SPDX-License-Identifier: Apache-2.0
// The push/pop ranges of one thread -> rows of `range`, in the order of their starts, so that the
// row of a range is the first one's plus its index. A row waits until its range is closed; one that
// stays open while kMostWaiting others begin is written without its end and completed later.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "db/trace_db.h"
#include "profiler/convert/timeline.h"

namespace preserve {

// What only the end of a thread tells, and its operators depend on.
struct ThreadShape {
  enum Range : uint8_t { kHasRange = 1, kHasCall = 2, kHasCalls = 4 };  // directly inside
  std::vector<uint8_t> ranges;                                          // by index
  int64_t first_call_end_ns = INT64_MAX, last_call_start_ns = INT64_MIN;
  bool interleaved = false;  // a range ended before another one that began inside it

  bool has_calls() const { return last_call_start_ns != INT64_MIN; }
  bool is_leaf(uint32_t range) const { return (ranges[range] & kHasRange) == 0; }
  bool calls_inside(uint32_t range) const { return (ranges[range] & kHasCall) != 0; }
  bool one_call_inside(uint32_t range) const {
    return (ranges[range] & (kHasCall | kHasCalls)) == kHasCall;
  }
};

class RangeRows : public TimelineListener {
 public:
  static constexpr size_t kMostWaiting = size_t{1} << 18;

  // `written` is told of every row when it is added: its range and its parent's index.
  RangeRows(TraceDb& db, StreamId stream, RangeId first, ThreadShape& shape,
            std::function<void(const RangeRow& row, uint32_t parent)> written,
            size_t most_waiting = kMostWaiting);

  void opened(OpenRanges open) override;
  void closed(OpenRanges open, size_t place, int64_t end_ns) override;
  void called(const TimelineCall& call) override;
  // JSON of a push or pop of a range that is open.
  void add_payload(uint32_t range, std::string json);
  // After the last record.
  void finish(OpenRanges open);

 private:
  struct Waiting {
    int64_t start_ns = 0, end_ns = 0;
    uint32_t name = 0, domain = 0;
    uint32_t parent = kNoRange, depth = 0;
    bool closed = false;
  };
  void write_first(OpenRanges open);
  void complete(OpenRanges open, size_t place, int64_t end_ns);
  uint32_t depth_in_rows(uint32_t index, const Waiting& row);

  TraceDb& db_;
  StreamId stream_;
  RangeId first_;
  ThreadShape& shape_;
  std::function<void(const RangeRow&, uint32_t)> written_;
  size_t most_waiting_;
  std::deque<Waiting> waiting_;
  uint32_t next_ = 0;  // index of the first one that waits
  // Of ranges that are not complete yet.
  std::unordered_map<uint32_t, std::string> payloads_;
  struct Written {
    uint32_t index, depth;
  };
  std::vector<Written> path_;  // the row that was written last, below those around it
};

}  // namespace preserve
