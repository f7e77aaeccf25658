// SPDX-License-Identifier: Apache-2.0
// The collector's end of a spool file: header once, then chunks straight from the rings. Used by
// the writer thread only. A chunk is in the file whole or not at all: when one does not fit (disk
// full, file size limit) the file is cut back to its last whole chunk and the caller may try again.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "profiler/spool.h"

struct iovec;

namespace preserve::collector {

class SpoolFile {
 public:
  // Creates <folder>/<host>-<pid>-<n>.spool with the first n that is free, and writes the header.
  bool open(const char* folder, uint32_t flush_ms);
  struct Thread {
    uint32_t tid = 0;  // 0: what belongs to the process
    uint32_t ordinal = 0;
  };
  // Two parts because a ring wraps; either may be empty. False: nothing was written.
  bool write_chunk(Thread thread, const char* first, size_t first_bytes, const char* second,
                   size_t second_bytes);
  // The last chunk did not fit, or the file is gone.
  bool stuck() const { return stuck_; }
  // Anchors, statistics and the trailer gather here until write_control().
  void add_control(spool::RecordType type, const void* body, size_t bytes, uint64_t ticks = 0,
                   uint8_t flags = 0, std::string_view text = {});
  void add_anchor();
  void add_trailer();
  bool write_control();
  void close();
  // In a forked child: the file is the parent's.
  void abandon();

 private:
  bool still_ours();
  bool write_all(const iovec* parts, int count);

  static constexpr size_t kControlBytes = 64 << 10;
  int fd_ = -1;
  bool stuck_ = false, was_stuck_ = false;
  off_t end_ = 0;  // of the last whole chunk
  dev_t device_ = 0;
  ino_t inode_ = 0;
  size_t control_bytes_ = 0;
  alignas(8) char control_[kControlBytes] = {};
};

}  // namespace preserve::collector
