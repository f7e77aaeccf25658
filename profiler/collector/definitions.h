// SPDX-License-Identifier: Apache-2.0
// The log of definitions: what the program named and registered, in the layout of the spool. It is
// kept for the life of the process, since a forked child writes it again into its own spool.
#pragma once

#include <atomic>
#include <cstddef>
#include <string_view>

#include "profiler/collector/bounded_lock.h"
#include "profiler/spool.h"

namespace preserve::collector {

class SpoolFile;
struct Blob;

class Definitions {
 public:
  static constexpr size_t kBytes = 16 << 20;

  // False when the log is full, or locked by a definition that this one interrupts.
  bool add(const spool::RecordHeader& head, const spool::DefinitionBody& body,
           std::string_view text, const Blob& blob);
  std::string_view registered_string(uint64_t id) const;

  // Writer thread: what is new; false when the file takes no more now.
  bool write(SpoolFile& file);
  size_t written() const { return written_; }
  std::string_view first(size_t bytes) const { return {memory_, bytes}; }

  BoundedLock& lock() { return lock_; }  // around a fork
  void start_over() { written_ = 0; }    // a child writes everything once more

 private:
  BoundedLock lock_;
  char* memory_ = nullptr;  // kBytes of address space, touched as needed
  std::atomic<size_t> end_{0};
  size_t written_ = 0;  // writer thread
};

extern Definitions definitions;  // of this process

}  // namespace preserve::collector
