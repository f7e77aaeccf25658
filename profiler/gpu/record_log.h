// SPDX-License-Identifier: Apache-2.0
// More records than memory should hold, kept in the order in which they came and read as often as
// needed. What does not fit lies in an unnamed temporary file (record_sorter.h). Errors (no room
// for it) are input_error.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "common/error.h"
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
      if (!log_->seek(at_) || std::fread(ahead_.data(), sizeof(Record), ahead_.size(),
                                         log_->file_.get()) != ahead_.size()) {
        throw input_error("cannot read back a temporary file: {}", std::strerror(errno));
      }
    }

    const RecordLog* log_;
    size_t at_, end_, cursor_ = 0;
    std::vector<Record> ahead_;
  };

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  bool seek(size_t record) const {
    return std::fseek(file_.get(), static_cast<long>(record * sizeof(Record)), SEEK_SET) == 0;
  }
  void spill() {
    if (!file_) file_.reset(unnamed_temporary_file());
    if (!seek(spilled_) || std::fwrite(latest_.data(), sizeof(Record), latest_.size(),
                                       file_.get()) != latest_.size()) {
      throw input_error("cannot write a temporary file: {}", std::strerror(errno));
    }
    spilled_ += latest_.size();
    latest_.clear();
  }

  size_t batch_, spilled_ = 0;  // of the file
  std::vector<Record> latest_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace preserve::gpu
