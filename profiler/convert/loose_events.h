// SPDX-License-Identifier: Apache-2.0
// Marks and start/end ranges -> rows of `range`. A range may end on another thread, so all records
// are looked at twice: count() finds out which end belongs to which start, add_row() adds the rows.
// Memory is bounded by the sorters.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "db/trace_db.h"
#include "profiler/gpu/record_sorter.h"
#include "profiler/spool.h"

namespace preserve {

// A mark, or one end of a start/end range.
struct LooseEvent {
  spool::RecordType type;  // mark, range_start, range_end
  int64_t ns;
  uint64_t id;
  uint32_t name, domain;  // StringId values
  uint32_t around;        // innermost push/pop range: its index
  uint32_t depth;         // how many are open
  std::string payload;    // JSON; only for add_row()
};

class LooseEvents {
 public:
  // Once for every event of the process; then join(), then add_row() for the same events in the
  // same order.
  void count(const LooseEvent& event);
  void join();
  void add_row(const LooseEvent& event, StreamId stream, RangeId around, int64_t depth,
               TraceDb& db);

  int64_t unmatched() const { return ends_seen_ - ends_used_; }  // ends without a start
  int64_t rows() const { return rows_; }

 private:
  struct Start {
    uint64_t id;
    int64_t order;
    bool operator<(const Start& other) const {
      return std::tie(id, order) < std::tie(other.id, other.order);
    }
  };
  struct End {
    uint64_t id;
    int64_t order, ns;
    bool operator<(const End& other) const {
      return std::tie(id, order) < std::tie(other.id, other.order);
    }
  };
  struct Matched {
    int64_t order, end_ns;  // order: of the start
    bool operator<(const Matched& other) const { return order < other.order; }
  };
  int64_t order_ = 0, ends_seen_ = 0, ends_used_ = 0, rows_ = 0;
  gpu::RecordSorter<Start, std::less<Start>> starts_;
  gpu::RecordSorter<End, std::less<End>> ends_;
  gpu::RecordSorter<Matched, std::less<Matched>> matched_;
  Matched next_{};
  bool more_ = false;
};

}  // namespace preserve
