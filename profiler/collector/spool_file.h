// SPDX-License-Identifier: Apache-2.0
// The collector's end of a spool file: header once, then chunks straight from the rings. Created on
// a thread of the program, written by the writer thread alone: a write beyond RLIMIT_FSIZE raises
// SIGXFSZ on the thread that makes it, and only the writer has all signals blocked. A chunk is in
// the file whole or not at all: when one does not fit (disk full, file size limit) the file is cut
// back to its last whole chunk and the caller may try again.
//
// When the newest records are to be kept, the file is used in halves of its limit: with the third
// half the first one becomes a gap that takes no disk, and so on. Its length grows meanwhile.
#pragma once

#include <limits.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "profiler/collector/process_facts.h"
#include "profiler/spool.h"

struct iovec;

namespace preserve::collector {

class SpoolFile {
 public:
  // Creates <folder>/<host>-<pid>-<n>.spool with the first n that is free; it has this name as soon
  // as it has a header. Chunks of records that would make it longer than `limit` bytes are refused,
  // or, with `keep_last`, once a half is full, until next_half(). A file system without gaps keeps
  // the first. So are chunks that would leave less than `least_free` bytes of the disk, which other
  // processes fill too.
  bool create(const char* folder, uint32_t flush_ms, int64_t limit, bool keep_last,
              int64_t least_free);
  // Once, before everything else; false: try again later.
  bool write_header();
  struct Thread {
    uint32_t tid = 0;  // 0: what belongs to the process
    uint32_t ordinal = 0;
  };
  // Two parts because a ring wraps; either may be empty. False: nothing was written.
  bool write_chunk(Thread thread, const char* first, size_t first_bytes, const char* second,
                   size_t second_bytes);
  // Whether another half would take a chunk of `bytes` that this one has no room for.
  bool needs_next_half(size_t bytes) const;
  // The last chunk would fit into another half.
  bool half_is_full() const { return half_is_full_; }
  // Gives up the oldest half but for `definitions`: those that its chunks hold. `lost`: a half was
  // given up, which the first time is not so. False: nothing was done.
  bool next_half(std::string_view definitions, bool* lost);
  // The last chunk did not fit, or the file is gone.
  bool stuck() const { return stuck_; }
  // Anchors, statistics and the trailer gather here until write_control().
  void add_control(spool::RecordType type, const void* body, size_t bytes, uint64_t ticks = 0,
                   uint8_t flags = 0, std::string_view text = {});
  void add_anchor();
  void add_trailer();
  bool write_control();
  void close();  // one without a header stays for the converter, which counts it

 private:
  bool still_ours();
  bool disk_is_short(off_t bytes) const;
  bool write_all(iovec* parts, int count);
  bool give_up(std::string_view definitions);
  bool append(Thread thread, const char* first, size_t first_bytes, const char* second,
              size_t second_bytes);

  static constexpr size_t kControlBytes = 64 << 10;
  int fd_ = -1;
  bool stuck_ = false, was_stuck_ = false, limit_reached_ = false, disk_was_short_ = false;
  bool keep_last_ = false, half_is_full_ = false;
  off_t end_ = 0;  // of the last whole chunk; 0: no header yet
  off_t limit_ = 0, least_free_ = 0;
  off_t begin_ = 0, middle_ = 0;  // of the records that are kept; of their newer half
  spool::FileHeader header_{};
  ProcessFacts facts_{};
  char path_[PATH_MAX] = {};  // while it has no header
  size_t name_bytes_ = 0;     // of path_: its name afterwards
  dev_t device_ = 0;
  ino_t inode_ = 0;
  size_t control_bytes_ = 0;
  alignas(8) char control_[kControlBytes] = {};
};

}  // namespace preserve::collector
