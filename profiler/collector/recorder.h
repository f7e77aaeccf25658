// SPDX-License-Identifier: Apache-2.0
// The collector's core inside the profiled process: one ring per recording thread, one log of
// definitions, one writer thread that appends both to the spool file. Callers are NVTX callbacks
// and MPI wrappers on the program's own threads, so nothing here throws, prints, exits or waits for
// I/O; what cannot be stored is counted.
//
// Memory: at most PRESERVE_RING_TOTAL bytes of rings (a ring returns when its thread ends) and
// Definitions::kBytes of definitions. A thread beyond that records nothing and is counted.
// Environment (set by preserve-profile): PRESERVE_SPOOL_DIR, without which nothing is recorded,
// PRESERVE_FLUSH_MS, PRESERVE_RING_BYTES, PRESERVE_RING_TOTAL, PRESERVE_MAX_SPOOL (bytes of one
// process's spool; what does not fit is dropped and counted), PRESERVE_KEEP_LAST=1 (the oldest
// gives way instead), PRESERVE_LEAST_FREE (bytes of the disk that stay free), PRESERVE_SAMPLE
// (sampling.h), PRESERVE_MPI=0.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "profiler/collector/ring.h"
#include "profiler/collector/sampling.h"
#include "profiler/collector/ticks.h"
#include "profiler/spool.h"

namespace preserve::collector {

class SpoolFile;

enum Source { kNvtx, kMpi, kCuda, kSourceCount };

inline constexpr size_t kPopBytes = sizeof(spool::RecordHeader);
inline constexpr size_t kDomainSlots = 64;  // domains beyond share the last slot of the skip count

struct ThreadLog {
  Ring ring;
  uint32_t tid = 0;
  uint32_t ordinal = 0;         // tells threads apart that had the same tid one after the other
  uint32_t open_pushes = 0;     // accepted and not popped yet: their pops have room kept
  uint32_t skipped_pushes = 0;  // sum of `skipped`
  uint32_t skipped[kDomainSlots] = {};  // refused and not popped yet, per domain
  uint64_t sampled_out = 0;             // domains, as bits, whose refused pushes sampling refused
  SampledNames names;
  // Written by the owner, read by the writer thread.
  std::atomic<uint64_t> received[kSourceCount] = {};
  std::atomic<uint64_t> dropped[kSourceCount] = {};
  std::atomic<uint64_t> sampled{0};  // of kNvtx: received, and left out by --sample
  uint64_t reported = 0;             // writer thread: sum of the counters at its last report
  void* extension = nullptr;  // owner: what another part of the collector keeps with the thread;
                              // stays with the log

  // kFree -> kClaimed -> kInUse: by a new thread, which resets everything while it is kClaimed.
  // kInUse -> kFinished: by the thread at its end. kFinished -> kFree: by the writer thread, which
  // looks at nothing else of a log that is kFree or kClaimed.
  enum State : uint32_t { kFree, kClaimed, kInUse, kFinished };
  std::atomic<uint32_t> state{kFree};
  ThreadLog* next = nullptr;  // never changes once linked

  bool has_owner() const {
    const uint32_t now = state.load(std::memory_order_acquire);
    return now == kInUse || now == kFinished;
  }
  void count(std::atomic<uint64_t>& counter) {  // single writer: no locked instruction needed
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// Initial-exec: a plain load in the hot path; one pointer fits the static TLS reserve of dlopen.
extern __thread ThreadLog* tls_log __attribute__((tls_model("initial-exec")));
ThreadLog* attach_this_thread(Source source);

// What this thread records into; nullptr when it cannot (no spool, no memory, shut down), in which
// case one record of `source` has been counted as dropped.
inline ThreadLog* this_thread(Source source) {
  return __builtin_expect(tls_log != nullptr, 1) ? tls_log : attach_this_thread(source);
}

// This thread may make no system call and read no clock any more: it counts what it loses.
extern __thread bool muted __attribute__((tls_model("initial-exec")));
void mute_this_thread();
void count_lost(Source source);  // one record that finds no ring

// Whether PRESERVE_SPOOL_DIR asked for a recording. Constant for the life of the process.
bool recording_wanted();
// Before anything that keeps state: a child whose fork ran no handlers begins afresh.
void start_over_if_forked();
// A number that preserve-profile sets; `otherwise` when it is not set or out of range.
int64_t environment_number(const char* name, int64_t low, int64_t high, int64_t otherwise);

// Zeroed pages for as long as the process lives; nullptr when there are none.
void* map_memory(size_t bytes);

// Records that come from elsewhere than a thread's ring (activity buffers of a GPU): called by the
// writer thread on every pass. nullptr: none.
using BackgroundSource = void (*)(SpoolFile& file);
void set_background_source(BackgroundSource source);
// Of a source, before a chunk of at most `bytes`: which half of the file takes it, counted from 0.
// What was written before the half in front of it is gone.
uint32_t half_for(size_t bytes);
// Of a source: the size for its chunks, at most `bytes`, of which a half of the file takes some.
size_t chunk_bytes(size_t bytes);
// Told of every push and pop of the program, and of every start and end (which may be on another
// thread), on its thread. For recordings that follow ranges; nullptr, as it is without them, costs
// one load.
struct RangeEvent {
  enum Kind : uint8_t { push, pop, start, end } kind;
  std::string_view name;  // of push and start
  uint64_t id = 0;        // of start and end
};
using RangeWatch = void (*)(const RangeEvent& event);
void set_range_watch(RangeWatch watch);
extern std::atomic<RangeWatch> range_watch;
// Text that was registered under this number; empty when it is not known any more.
std::string_view registered_string(uint64_t id);

// Told of every MPI call of the program, on its thread, before it and after it, and of what lasts
// longer than a call; nullptr, as it is without such a recording, costs one load.
struct CallWatch {
  void (*began)();
  void (*ended)(uint16_t function);       // mpi::Function
  void (*requested)(int more);            // non-blocking communication began (1) or ended (-1)
  void (*undescribed)(const char* name);  // before a call whose arguments are not known
  void (*ending)();                       // MPI_Finalize, MPI_Abort
};
extern std::atomic<const CallWatch*> call_watch;

void wake_writer();
// Asks the writer thread to write everything recorded so far and waits for it, at most 2 s.
void flush_now();
// Asks for the same, and for the launcher's clock once more, and waits for neither: the program may
// be ended at any moment after the flush_now() that follows.
void begin_last_flush();

// Written straight to where it stays: the stack of a thread of the program may be small.
struct Blob {
  size_t bytes = 0;
  void (*write)(char* out, size_t bytes, const void* source) = nullptr;  // at most `bytes`
  const void* source = nullptr;
};
// Adds to the log of definitions, which a forked child writes again into its own spool. When the
// log is full it goes the way of ordinary records.
void define(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body,
            std::string_view text = {}, const Blob& blob = {});
// A call of an MPI function that is not described; the same function has the same pointer.
void count_undescribed(const char* name);
// The same layout as an ordinary record of this thread: may be dropped, unknown to forked children.
void record_definition(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body);

inline spool::RecordHeader header(spool::RecordType type, size_t bytes, size_t text_bytes,
                                  uint16_t domain, uint8_t flags = 0) {
  return {static_cast<uint16_t>(bytes / 8),
          static_cast<uint16_t>(text_bytes),
          type,
          flags,
          domain,
          ticks_now()};
}

// By the C library. Of a length that it knows to be small the compiler makes a string instruction,
// which takes longer to start than all the rest of a record.
inline void copy_text(char* out, std::string_view text) {
  if (text.empty()) return;
  size_t bytes = text.size();
  asm("" : "+r"(bytes));
  std::memcpy(out, text.data(), bytes);
}

// Counts a record that the ring did not take as received and dropped.
void refused(ThreadLog& log, Source source);

// Room in the ring for a record that leaves `keep_more` bytes after it, and room for the pops of
// all open ranges; counts it as received, and as dropped when there is none.
inline char* begin_record(ThreadLog& log, Source source, size_t bytes, size_t keep_more = 0) {
  // 8: the pops may need a pad record once.
  char* out = log.ring.reserve(bytes, log.open_pushes * kPopBytes + keep_more + 8);
  if (__builtin_expect(out == nullptr, 0)) {
    refused(log, source);
  } else {
    log.count(log.received[source]);
  }
  return out;
}

inline void end_record(ThreadLog& log, size_t bytes) {
  log.ring.publish(bytes);
  if (__builtin_expect(log.ring.half_full(), 0)) wake_writer();
}

}  // namespace preserve::collector
