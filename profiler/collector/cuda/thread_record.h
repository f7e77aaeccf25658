// SPDX-License-Identifier: Apache-2.0
// Writes a CUDA record into the ring of the calling thread, between its NVTX records. False when
// the ring has no room; the recorder has counted that.
#pragma once

#include <cstring>
#include <string_view>

#include "profiler/collector/recorder.h"
#include "profiler/cuda_records.h"

namespace preserve::cuda {

template <typename Body>
bool record_on_thread(RecordType type, const Body& body, std::string_view text = {},
                      const void* blob = nullptr, size_t blob_bytes = 0) {
  collector::ThreadLog* log = collector::this_thread(collector::kCuda);
  if (log == nullptr) return false;
  text = text.substr(0, spool::kMaxTextBytes);
  const size_t text_room = spool::padded(text.size()), blob_room = spool::padded(blob_bytes);
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(Body) + text_room + blob_room;
  static_assert(sizeof(Body) % 8 == 0);
  char* out = collector::begin_record(*log, collector::kCuda, bytes);
  if (out == nullptr) return false;
  const spool::RecordHeader head =
      collector::header(static_cast<spool::RecordType>(type), bytes, text.size(), 0);
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + sizeof(head), &body, sizeof(Body));
  char* tail = out + sizeof(head) + sizeof(Body);
  if (text_room > 0) {
    std::memset(tail + text_room - 8, 0, 8);
    std::memcpy(tail, text.data(), text.size());
  }
  if (blob_room > 0) {
    std::memset(tail + text_room + blob_room - 8, 0, 8);
    std::memcpy(tail + text_room, blob, blob_bytes);
  }
  collector::end_record(*log, bytes);
  return true;
}

}  // namespace preserve::cuda
