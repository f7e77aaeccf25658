// SPDX-License-Identifier: Apache-2.0
// More records than memory should hold, kept in the order in which they came and read as often as
// needed. What does not fit lies in an unnamed temporary file; file and errors: temporary_file.h.
#pragma once

#include <algorithm>
#include <vector>

#include "profiler/gpu/packed_records.h"
#include "profiler/gpu/record_sorter.h"

namespace preserve::gpu {

template <typename Record>
class RecordLog {
  static_assert(kIsPackable<Record>);

 public:
  explicit RecordLog(size_t memory_bytes = kSorterBytes)
      : batch_(std::max(kBlock, memory_bytes / sizeof(Record) / kBlock * kBlock)) {}

  void add(const Record& record) {
    if (latest_.size() == batch_) spill();
    latest_.push_back(record);
  }
  size_t size() const { return spilled_ + latest_.size(); }

  // The records numbered from `first` to before `end`, counted from 0. The log must not grow
  // meanwhile.
  class Pass {
   public:
    Pass(const RecordLog& log, size_t first, size_t end) : log_(&log), at_(first), end_(end) {}

    bool next(Record& record) {
      if (at_ == end_) return false;
      if (at_ >= log_->spilled_) {
        record = log_->latest_[at_++ - log_->spilled_];
        return true;
      }
      if (ahead_.empty() || at_ % kBlock == 0) {
        ahead_.resize(kBlock);
        log_->spilled_records_.read(at_ / kBlock, kBlock, ahead_.data());
      }
      record = ahead_[at_++ % kBlock];
      return true;
    }

   private:
    const RecordLog* log_;
    size_t at_, end_;
    std::vector<Record> ahead_;  // the block of at_
  };

 private:
  static constexpr size_t kBlock = PackedRecords::kBlock;

  void spill() {
    spilled_records_.append(latest_.data(), latest_.size());
    spilled_ += latest_.size();
    latest_.clear();
  }

  size_t batch_, spilled_ = 0;  // whole blocks both
  std::vector<Record> latest_;
  PackedRecords spilled_records_{sizeof(Record)};
};

}  // namespace preserve::gpu
