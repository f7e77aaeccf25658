// SPDX-License-Identifier: Apache-2.0
// When GPU activity is recorded, as --capture-range says:
//   whole               from start to end
//   profiler            between cudaProfilerStart and cudaProfilerStop
//   nvtx:NAME           inside ranges of that name (any thread, any domain)
//   time:DELAY[:LENGTH] from DELAY ms after CUDA started, for LENGTH ms
//   steps:N[:NAME]      every N-th range of that name (decode_step)
// NAME may hold * and ?. Pure and allocation-free: asked inside the profiled process.
#pragma once

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

}  // namespace preserve::cuda
