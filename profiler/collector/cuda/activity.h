// SPDX-License-Identifier: Apache-2.0
// CUPTI activity record -> spool record, in the collector's writer thread. Every field is read
// through the oldest struct that has it, and only when the CUPTI in the process is new enough to
// write it, so one build reads every generation (CUpti_ActivityKernel4 to Kernel10;
// cupti_activity.h of CUDA 13.0).
//
// Never throws or allocates. Names are written once each while the table of names has room, and
// again with every record when it has none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "profiler/cuda_records.h"
#include "profiler/spool.h"

namespace preserve::cuda {

// What each CUPTI version (cuptiGetVersion) put into its records.
struct Generation {
  explicit Generation(uint32_t cupti_version);
  uint8_t kernel;  // n of CUpti_ActivityKernel<n>
  bool graph_node, graph_id, channel, overhead_correlation;
};

class ActivityDecoder {
 public:
  explicit ActivityDecoder(uint32_t cupti_version);

  // Largest output of one record: a name and the record itself.
  static constexpr size_t kMaxBytes =
      2 * (sizeof(spool::RecordHeader) + 256) + 2 * spool::kMaxTextBytes;
  // `record`: a CUpti_Activity. Writes whole spool records to `out` and returns their bytes; 0 for
  // kinds that are not recorded.
  size_t decode(const void* record, char* out);

  // What the converter counts as records: of kernels, copies, fills and launches of whole graphs.
  uint64_t operators() const { return operators_; }
  uint64_t unknown_kinds() const { return unknown_kinds_; }
  // What reads the next records knows no names yet.
  void forget_names();

 private:
  struct Name {
    uint64_t hash = 0, check = 0;
    uint32_t id = 0;
  };
  static constexpr size_t kNames = size_t{1} << 16;

  uint32_t intern(const char* text, char*& out);
  size_t kernel(const void* record, char* out);
  size_t memory(const void* record, char* out);
  size_t device(const void* record, char* out);

  Generation generation_;
  std::unique_ptr<Name[], decltype(&std::free)> names_;  // nullptr: no memory for it
  uint32_t names_used_ = 0, last_id_ = 0;
  uint64_t operators_ = 0, unknown_kinds_ = 0;
};

}  // namespace preserve::cuda
