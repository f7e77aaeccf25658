// SPDX-License-Identifier: Apache-2.0
// Records that memory has no room for, in an unnamed temporary file. Of a record only those bytes
// are written in which it differs from the one before, mostly a fifth of it: a byte that goes
// through a file costs more than to compare it.
//
// The file lies in $TMPDIR, else in /var/tmp, which unlike /tmp is never memory. Errors (no room
// for it) are input_error.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <type_traits>
#include <vector>

#include "profiler/gpu/temporary_file.h"

namespace preserve::gpu {

class PackedRecords {
 public:
  static constexpr size_t kBlock = 256;  // records that are read together

  // `record_bytes`: of each; a multiple of 8, at most kMostBytes.
  explicit PackedRecords(size_t record_bytes) : record_bytes_(record_bytes) {}

  // In blocks of kBlock records, the last of which may have fewer.
  void append(const void* records, size_t count);
  size_t blocks() const { return starts_.size(); }
  // A block of `count` records.
  void read(size_t block, size_t count, void* records) const;

  static constexpr size_t kMostBytes = 1024;

 private:
  size_t most_packed_bytes(size_t count) const;

  size_t record_bytes_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  int64_t bytes_ = 0;                 // of the file
  std::vector<int64_t> starts_;       // of the blocks, in the file
  mutable std::vector<char> packed_;  // on the way into the file or out of it
};

// What may be kept so.
template <typename Record>
inline constexpr bool kIsPackable =
    std::is_trivially_copyable_v<Record> && sizeof(Record) % sizeof(uint64_t) == 0 &&
    sizeof(Record) <= PackedRecords::kMostBytes&& std::endian::native == std::endian::little;

}  // namespace preserve::gpu
