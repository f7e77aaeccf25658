// SPDX-License-Identifier: Apache-2.0
// The records of one thread -> its Timeline, and what does not belong to it: payloads, marks,
// start/end ranges (they may end on another thread) and finished non-blocking communication.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profiler/convert/names.h"
#include "profiler/convert/process_image.h"
#include "profiler/convert/timeline.h"

namespace preserve {

struct RecordedPayload {
  uint32_t range;  // index in the timeline
  uint16_t domain;
  spool::EventBody body;
  std::string_view blob;
};

// A mark, or one end of a start/end range.
struct LooseEvent {
  spool::RecordType type;  // mark, range_start, range_end
  int64_t ns;
  uint64_t id;
  uint32_t name, domain;  // StringId values
  uint32_t around;        // innermost range, an index in the timeline
  uint16_t domain_number;
  spool::EventBody body;
  std::string_view blob;
};

class ThreadReader {
 public:
  ThreadReader(ProcessImage& image, Names& names) : image_(image), names_(names) {}
  // `first_range`: number of this thread's first range among those of the process, from 1. `tid`:
  // its own.
  void read(const std::vector<std::string_view>& chunks, uint32_t tid, uint32_t first_range);

  Timeline timeline;
  std::vector<RecordedPayload> payloads;
  std::vector<LooseEvent> loose;
  // Non-blocking communication that was seen to complete, by the thread that started it.
  std::vector<TimelineCall> finished;

 private:
  void read_record(const SpoolRecord& record);
  void read_event(const SpoolRecord& record, int64_t ns);
  void read_mpi(const SpoolRecord& record, int64_t ns);
  void read_nccl(uint32_t range, const spool::EventBody& body, std::string_view blob,
                 uint16_t domain, int64_t ns);
  cuda::Position position(int64_t ns) const;
  uint32_t event_name(const spool::EventBody& body, std::string_view text);
  uint32_t domain_name(uint16_t domain);

  ProcessImage& image_;
  Names& names_;
  std::unordered_map<uint32_t, uint32_t> string_names_;  // registered string -> name
  std::unordered_map<uint16_t, uint32_t> domain_names_;
  uint32_t tid_ = 0, first_range_ = 1;
};

}  // namespace preserve
