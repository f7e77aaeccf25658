// SPDX-License-Identifier: Apache-2.0
// More records than memory should hold, kept in the order in which they came and read as often as
// needed. What does not fit lies in an unnamed temporary file (record_sorter.h). Errors (no room
// for it) are input_error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <type_traits>
#include <vector>

#include "profiler/gpu/record_sorter.h"

namespace preserve::gpu {

template <typename Record>
class RecordLog {
  static_assert(std::is_trivially_copyable_v<Record>);

 public:
  explicit RecordLog(size_t memory_bytes = kSorterBytes)
      : batch_(std::max<size_t>(1, memory_bytes / sizeof(Record))) {}

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
      if (cursor_ == ahead_.size()) read_ahead();
      record = ahead_[cursor_++];
      ++at_;
      return true;
    }

   private:
    void read_ahead() {
      constexpr size_t kAhead = 1024;
      ahead_.resize(std::min(kAhead, std::min(end_, log_->spilled_) - at_));
      cursor_ = 0;
      read_at(log_->file_.get(), static_cast<int64_t>(at_) * kBytes, ahead_.data(),
              static_cast<int64_t>(ahead_.size()) * kBytes);
    }

    const RecordLog* log_;
    size_t at_, end_, cursor_ = 0;
    std::vector<Record> ahead_;
  };

 private:
  static constexpr auto kBytes = static_cast<int64_t>(sizeof(Record));

  void spill() {
    if (!file_) file_.reset(unnamed_temporary_file());
    write_at(file_.get(), static_cast<int64_t>(spilled_) * kBytes, latest_.data(),
             static_cast<int64_t>(latest_.size()) * kBytes);
    spilled_ += latest_.size();
    latest_.clear();
  }

  size_t batch_, spilled_ = 0;  // of the file
  std::vector<Record> latest_;
  std::unique_ptr<std::FILE, CloseFile> file_;
};

}  // namespace preserve::gpu
