// SPDX-License-Identifier: Apache-2.0
// The records of one thread -> its Timeline, and what does not belong to it: payloads, marks,
// start/end ranges (they may end on another thread) and finished non-blocking communication. A
// thread is read several times, because nothing of it is kept; only the first reading counts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profiler/convert/loose_events.h"
#include "profiler/convert/names.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/timeline.h"

namespace preserve {

class ThreadReader {
 public:
  // `done` is told of every chunk that was read.
  ThreadReader(ProcessImage& image, Names& names, TimelineListener& listener,
               const std::function<void(size_t bytes)>& done)
      : image_(image), names_(names), timeline_(listener), done_(done) {}

  // Whoever wants them sets these before reading.
  std::function<void(uint32_t range, std::string json)> on_payload{};  // before the range is closed
  std::function<void(const LooseEvent& event)> on_loose{};
  // A call that began non-blocking communication; the communication that was seen to complete.
  std::function<void(const TimelineCall& call)> on_issued{};
  std::function<void(const TimelineCall& call)> on_finished{};

  // The first time: counts the records and hands on those of CUDA. `first_range`: number of this
  // thread's first range among those of the process, from 1. `tid`: its own.
  void read(const std::vector<std::string_view>& chunks, uint32_t tid, uint32_t first_range);
  // Any other time: the same events again, but for CUDA.
  void read_again(const std::vector<std::string_view>& chunks);

  const Timeline& timeline() const { return timeline_; }

 private:
  void read_chunks(const std::vector<std::string_view>& chunks);
  void read_record(const SpoolRecord& record);
  void read_event(const SpoolRecord& record, int64_t ns);
  void read_loose(const SpoolRecord& record, int64_t ns, const spool::EventBody& body,
                  std::string_view text, std::string_view blob);
  void read_mpi(const SpoolRecord& record, int64_t ns);
  void read_nccl(uint32_t range_name, uint16_t domain, const std::string& json, int64_t ns);
  std::string payload(const spool::EventBody& body, std::string_view blob, uint16_t domain) const;
  cuda::Position position(int64_t ns) const;
  uint32_t event_name(const spool::EventBody& body, std::string_view text);
  uint32_t domain_name(uint16_t domain);

  ProcessImage& image_;
  Names& names_;
  Timeline timeline_;
  const std::function<void(size_t bytes)>& done_;
  LossCount counted_before_;  // takes the counts of a second reading
  LossCount* nvtx_ = nullptr;
  LossCount* mpi_ = nullptr;
  bool first_ = true;
  std::map<uint32_t, uint32_t> string_names_;  // registered string -> name
  std::unordered_map<uint16_t, uint32_t> domain_names_;
  uint32_t tid_ = 0, first_range_ = 1;
};

}  // namespace preserve
