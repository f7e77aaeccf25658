// SPDX-License-Identifier: Apache-2.0
// The log of definitions: what the program named and registered, in the layout of the spool. It is
// kept for the life of the process, since a forked child writes it again into its own spool.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <string_view>

#include "profiler/spool.h"

namespace preserve::collector {

class SpoolFile;

class Definitions {
 public:
  static constexpr size_t kBytes = 16 << 20;

  // False when the log is full.
  bool add(const spool::RecordHeader& head, const spool::DefinitionBody& body,
           std::string_view text, std::string_view blob);
  std::string_view registered_string(uint64_t id) const;

  // Writer thread: what is new; false when the file takes no more now.
  bool write(SpoolFile& file);

  // Around a fork. A child writes everything once more.
  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }
  void unlock_in_child() { pthread_mutex_init(&mutex_, nullptr); }
  void start_over() { written_ = 0; }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  char* memory_ = nullptr;  // kBytes of address space, touched as needed
  std::atomic<size_t> end_{0};
  size_t written_ = 0;  // writer thread
};

extern Definitions definitions;  // of this process

}  // namespace preserve::collector
