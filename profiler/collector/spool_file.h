// SPDX-License-Identifier: Apache-2.0
// The collector's end of a spool file: header once, then chunks straight from the rings. Used by
// the writer thread only. After the first failed write nothing more is written: a file with a hole
// would be worse than a short one.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "profiler/spool.h"

struct iovec;

namespace preserve::collector {

class SpoolFile {
 public:
  // Creates <folder>/<host>-<pid>-<n>.spool with the first n that is free, and writes the header.
  bool open(const char* folder, uint32_t flush_ms);
  // Two parts because a ring wraps; either may be empty.
  void write_chunk(uint32_t tid, const char* first, size_t first_bytes, const char* second,
                   size_t second_bytes);
  // Anchors, statistics and the trailer gather here until write_control().
  void add_control(spool::RecordType type, const void* body, size_t bytes, uint64_t ticks = 0);
  void add_anchor();
  void write_control();
  void close();
  // In a forked child: the file is the parent's.
  void abandon();

 private:
  bool still_ours();
  bool write_all(const iovec* parts, int count);

  static constexpr size_t kControlBytes = 64 << 10;
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  size_t control_bytes_ = 0;
  alignas(8) char control_[kControlBytes] = {};
};

}  // namespace preserve::collector
