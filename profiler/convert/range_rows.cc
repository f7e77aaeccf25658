// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/range_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace preserve {

RangeRows::RangeRows(TraceDb& db, StreamId stream, RangeId first, ThreadShape& shape,
                     std::function<void(const RangeRow& row, uint32_t parent)> written,
                     size_t most_waiting)
    : db_(db),
      stream_(stream),
      first_(first),
      shape_(shape),
      written_(std::move(written)),
      most_waiting_(most_waiting) {}

void RangeRows::opened(OpenRanges open) {
  const OpenRange& range = open.back();
  if (open.size() > 1) shape_.ranges[open[open.size() - 2].index] |= ThreadShape::kHasRange;
  shape_.ranges.push_back(0);
  if (waiting_.size() == most_waiting_) write_first(open);
  waiting_.push_back({range.start_ns, 0, range.name, range.domain});
}

void RangeRows::closed(OpenRanges open, size_t place, int64_t end_ns) {
  const uint32_t index = open[place].index;
  shape_.interleaved = shape_.interleaved || place + 1 < open.size();
  if (index < next_) return complete(open, place, end_ns);
  Waiting& row = waiting_[index - next_];
  row.end_ns = end_ns;
  row.closed = true;
  // What is open just outside of it now: a range between them, of another domain, may have ended.
  row.parent = place == 0 ? kNoRange : open[place - 1].index;
  row.depth = static_cast<uint32_t>(place);
  while (!waiting_.empty() && waiting_.front().closed) write_first(open);
}

void RangeRows::called(const TimelineCall& call) {
  shape_.first_call_end_ns = std::min(shape_.first_call_end_ns, call.end_ns);
  shape_.last_call_start_ns = std::max(shape_.last_call_start_ns, call.start_ns);
  if (call.range == kNoRange) return;
  uint8_t& range = shape_.ranges[call.range];
  range |= (range & ThreadShape::kHasCall) != 0 ? ThreadShape::kHasCalls : ThreadShape::kHasCall;
}

void RangeRows::add_payload(uint32_t range, std::string json) {
  std::string& text = payloads_[range];
  text = text.empty() ? std::move(json) : fmt::format("{{\"push\":{},\"pop\":{}}}", text, json);
}

void RangeRows::finish(OpenRanges open) {
  while (!waiting_.empty()) write_first(open);
}

// Depth follows the parents as they are in the end: a range of another domain that lay between two
// others and ended before them is not counted.
uint32_t RangeRows::depth_in_rows(uint32_t index, const Waiting& row) {
  while (!path_.empty() && path_.back().index != row.parent) path_.pop_back();
  const uint32_t depth = row.parent == kNoRange ? 0
                         : path_.empty()        ? row.depth
                                                : path_.back().depth + 1;
  path_.push_back({index, depth});
  return depth;
}

void RangeRows::write_first(OpenRanges open) {
  Waiting waiting = waiting_.front();
  waiting_.pop_front();
  const uint32_t index = next_++;
  if (!waiting.closed) {
    const auto place = std::ranges::lower_bound(open, index, {}, &OpenRange::index) - open.begin();
    waiting.parent = place == 0 ? kNoRange : open[static_cast<size_t>(place - 1)].index;
    waiting.depth = static_cast<uint32_t>(place);
  }
  const auto payload = payloads_.find(index);
  const bool inside = waiting.parent != kNoRange;
  RangeRow row{.stream = stream_,
               .parent = inside ? RangeId{first_.value + waiting.parent} : RangeId{},
               .domain = StringId{waiting.domain},
               .name = StringId{waiting.name},
               .depth = depth_in_rows(index, waiting),
               .start_ns = waiting.start_ns};
  if (waiting.closed) row.end_ns = waiting.end_ns;
  if (payload != payloads_.end()) row.payload = payload->second;
  db_.add(row);
  if (written_) written_(row, waiting.parent);
  if (payload != payloads_.end() && waiting.closed) payloads_.erase(payload);
}

// The end of a range whose row is there already.
void RangeRows::complete(OpenRanges open, size_t place, int64_t end_ns) {
  const OpenRange& range = open[place];
  SqlValue parent = nullptr, payload = nullptr;
  if (place > 0) parent = first_.value + open[place - 1].index;
  if (const auto known = payloads_.find(range.index); known != payloads_.end()) {
    payload = std::move(known->second);
    payloads_.erase(known);
  }
  db_.execute("UPDATE range SET end_ns = ?, parent_id = ?, depth = ?, payload = ? WHERE id = ?",
              {end_ns, parent, static_cast<int64_t>(place), payload, first_.value + range.index});
}

}  // namespace preserve
