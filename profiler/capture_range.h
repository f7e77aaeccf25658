// SPDX-License-Identifier: Apache-2.0
// When GPU activity is recorded, as --capture-range says:
//   whole               from start to end
//   profiler            between cudaProfilerStart and cudaProfilerStop
//   nvtx:NAME           inside ranges of that name (any thread, any domain)
//   time:DELAY[:LENGTH] from DELAY ms after CUDA started, for LENGTH ms
//   steps:N[:NAME]      every N-th range of that name (decode_step)
// NAME may hold * and ?. Pure and allocation-free: asked inside the profiled process.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "common/glob.h"

namespace preserve::cuda {

class CaptureRange {
 public:
  enum class Kind : uint8_t { whole, profiler, nvtx, time, steps };
  static constexpr size_t kNameBytes = 128;

  // False when `text` is none of the above; the range is then `whole`.
  bool parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool recording_at_start() const {
    return kind_ == Kind::whole || (kind_ == Kind::time && delay_ms_ == 0);
  }
  bool watches_ranges() const { return kind_ == Kind::nvtx || kind_ == Kind::steps; }
  bool watches(std::string_view range) const { return glob_matches({name_, name_bytes_}, range); }
  // Of a watched range that opens as the `ordinal`-th (from 0).
  bool records(uint64_t ordinal) const { return kind_ == Kind::nvtx || ordinal % every_ == 0; }
  // Of Kind::time, `elapsed_ms` after the start.
  bool records_after(int64_t elapsed_ms) const {
    return elapsed_ms >= delay_ms_ && (length_ms_ == 0 || elapsed_ms < delay_ms_ + length_ms_);
  }
  int64_t next_change_ms(int64_t elapsed_ms) const;  // -1: none
  uint64_t every() const { return every_; }

 private:
  Kind kind_ = Kind::whole;
  char name_[kNameBytes] = {};
  size_t name_bytes_ = 0;
  int64_t delay_ms_ = 0, length_ms_ = 0;
  uint64_t every_ = 1;
};

// Whose range is being followed: that of the thread that pushed it, or the one that was started
// under an id and may end on another thread. One at a time: what opens meanwhile is not followed.
class CaptureOwner {
 public:
  // False: another one is followed.
  bool take_thread(uint32_t thread) { return take(of_thread(thread)); }
  bool take_started(uint64_t id) { return take(of_started(id)); }
  bool is_thread(uint32_t thread) const { return now() == of_thread(thread); }
  // Of the range that was started under this id: true for one caller, who then calls release().
  bool end_started(uint64_t id) {
    uint64_t expected = of_started(id);
    return id != 0 && owner_.compare_exchange_strong(expected, kEnding);
  }
  void release() { owner_.store(kNobody, std::memory_order_release); }

 private:
  static constexpr uint64_t kNobody = 0, kEnding = 1;  // no thread has id 0
  static uint64_t of_thread(uint32_t thread) { return uint64_t{thread} << 1 | 1; }
  static uint64_t of_started(uint64_t id) { return id << 1; }
  bool take(uint64_t owner) {
    uint64_t nobody = kNobody;
    return owner_.compare_exchange_strong(nobody, owner);
  }
  uint64_t now() const { return owner_.load(std::memory_order_acquire); }

  std::atomic<uint64_t> owner_{kNobody};
};

}  // namespace preserve::cuda
