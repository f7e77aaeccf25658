// SPDX-License-Identifier: Apache-2.0
// All of the recorder's state, for its two halves: what runs on threads of the program
// (recorder.cc) and the writer thread (writer.cc). Nobody else includes it.
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/collector/bounded_lock.h"
#include "profiler/collector/definitions.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/spool_file.h"

namespace preserve::collector {

inline constexpr size_t kUndescribed = 128;  // names of MPI functions

enum RunState : int { kIdle, kRunning, kStopping, kStopped, kFailed };

// All of the collector's state. Constant-initialised: usable before any constructor has run.
struct State {
  std::atomic<int> run{kIdle};
  BoundedLock start_lock;
  pthread_key_t exit_key{};
  SpoolFile file;
  int64_t flush_ns = 0, spool_limit = 0;
  bool keep_last = false;
  size_t ring_bytes = 0, ring_total = 0;

  std::atomic<ThreadLog*> logs{nullptr};
  std::atomic<size_t> ring_reserved{0};  // bytes of rings that exist
  // 1 in a page that a fork leaves zeroed in the child: how a fork without handlers (the bare
  // system call, _Fork, clone) is noticed.
  std::atomic<std::atomic<uint32_t>*> same_process{nullptr};
  pid_t pid = 0;
  std::atomic<bool> writer_left{false};
  // Held by the writer thread until it has ended, when the kernel marks it (robust mutex): after
  // writer_left it still makes the system calls of its end.
  pthread_mutex_t writer_lives{};
  std::atomic<bool> pause_asked{false};  // the writer thread leaves, for a while
  // The program has forbidden itself what a recording needs on its threads, or to begin one.
  std::atomic<bool> calls_forbidden{false}, start_forbidden{false};
  std::atomic<uint32_t> ordinal{0};  // of threads
  // The launcher's clock: the program has forbidden to ask for it; it is being asked for; the end
  // is near.
  std::atomic<bool> clock_forbidden{false}, clock_asked{false}, clock_due{false};

  std::atomic<BackgroundSource> background{nullptr};
  std::atomic<uint64_t> homeless_received[kSourceCount] = {};  // no ring: definitions included
  std::atomic<uint64_t> homeless_dropped[kSourceCount] = {};
  uint64_t homeless_reported = 0;
  // Writer thread. Of threads that ended while the older and the newer half of the file were
  // written: counters that go with their half. Definitions that the older half holds.
  uint64_t ended_received[2][kSourceCount] = {}, ended_dropped[2][kSourceCount] = {};
  size_t older_definitions = 0;
  uint32_t halves = 0;  // that were begun after the first
  uint64_t ended_sampled = 0, sampled_reported = 0;
  uint64_t looks_at_pages = 0;
  bool pages_take_long = false;
  struct Undescribed {
    std::atomic<const char*> name{nullptr};
    std::atomic<uint64_t> calls{0};
    uint64_t reported = 0;  // writer thread
  } undescribed[kUndescribed];

  sem_t wake{};
  std::atomic<bool> wake_pending{false};
  std::atomic<uint64_t> flushes_asked{0}, flushes_done{0};
};
extern State g;

// Writer thread, or the last thread of the program when it has left.
void* writer_main(void* unused);
bool writer_has_ended();
void write_everything(bool stopping);
void finish();

}  // namespace preserve::collector
