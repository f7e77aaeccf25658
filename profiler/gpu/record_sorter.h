// SPDX-License-Identifier: Apache-2.0
// Sorts more records than memory should hold: full batches are sorted and spilled to an unnamed
// temporary file, reading merges them. Joining kernels, launches and ranges of a trace is then a
// matter of three sorts and merges, in the same memory for ten thousand events or ten million.
//
// add() all, then sort() once, then next() until false. Equal records come in an unspecified order,
// so `Less` should be total where that matters. File and errors: temporary_file.h.
#pragma once

#include <algorithm>
#include <vector>

#include "profiler/gpu/packed_records.h"

namespace preserve::gpu {

// Bytes of records one sorter holds before it spills.
inline constexpr size_t kSorterBytes = 8 << 20;

template <typename Record, typename Less>
class RecordSorter {
  static_assert(kIsPackable<Record>);

 public:
  explicit RecordSorter(size_t batch_bytes = kSorterBytes)
      : batch_(std::max<size_t>(1, batch_bytes / sizeof(Record))) {}

  void add(const Record& record) {
    if (records_.size() == batch_) spill();
    records_.push_back(record);
    ++size_;
  }
  size_t size() const { return size_; }

  void sort() {
    if (!runs_.empty()) {
      spill();
      std::vector<Record>().swap(records_);
      start_merge();
    } else {
      sort_batch();
    }
  }

  bool next(Record& record) {
    if (runs_.empty()) {
      if (cursor_ == records_.size()) return exhausted();
      record = records_[cursor_++];
      return true;
    }
    if (heap_.empty()) return exhausted();
    // The last one is the least; the others are the heap. Runs mostly follow each other in time, so
    // it mostly stays the least.
    Head& least = heap_.back();
    record = least.record;
    if (!advance(least.run, least.record)) {
      heap_.pop_back();
      take_least();
    } else if (heap_.size() > 1 && later_(least, heap_.front())) {
      std::push_heap(heap_.begin(), heap_.end(), later_);
      take_least();
    }
    return true;
  }

 private:
  struct Run {
    size_t block = 0, count = 0;  // that come next, of the spilled ones
    std::vector<Record> ahead{};
    size_t cursor = 0;
  };
  struct Head {
    Record record;
    size_t run;
  };
  struct Later {
    bool operator()(const Head& a, const Head& b) const { return Less()(b.record, a.record); }
  };

  // What was read is not needed again: the next sorter gets its memory.
  bool exhausted() {
    std::vector<Record>().swap(records_);
    std::vector<Run>().swap(runs_);
    cursor_ = 0;
    spilled_ = PackedRecords(sizeof(Record));
    return false;
  }
  // Traces are mostly in order already; finding that out costs one pass.
  void sort_batch() {
    if (!std::ranges::is_sorted(records_, Less())) {
      std::ranges::sort(records_, Less());
    }
  }
  void spill() {
    if (records_.empty()) return;
    sort_batch();
    runs_.push_back({spilled_.blocks(), records_.size()});
    spilled_.append(records_.data(), records_.size());
    records_.clear();
  }
  void start_merge() {
    for (size_t run = 0; run < runs_.size(); ++run) {
      Head head{{}, run};
      if (advance(run, head.record)) heap_.push_back(head);
    }
    std::make_heap(heap_.begin(), heap_.end(), later_);
    take_least();
  }
  // Of the heap, to its end.
  void take_least() {
    if (!heap_.empty()) std::pop_heap(heap_.begin(), heap_.end(), later_);
  }
  bool advance(size_t index, Record& record) {
    Run& run = runs_[index];
    if (run.cursor == run.ahead.size()) {
      const size_t wanted = std::min(run.count, PackedRecords::kBlock);
      if (wanted == 0) return false;
      run.ahead.resize(wanted);
      spilled_.read(run.block++, wanted, run.ahead.data());
      run.count -= wanted;
      run.cursor = 0;
    }
    record = run.ahead[run.cursor++];
    return true;
  }

  size_t batch_, size_ = 0, cursor_ = 0;
  std::vector<Record> records_;
  std::vector<Run> runs_;
  std::vector<Head> heap_;
  PackedRecords spilled_{sizeof(Record)};
  Later later_;
};

}  // namespace preserve::gpu
