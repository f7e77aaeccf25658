// SPDX-License-Identifier: Apache-2.0
// The writer thread: moves the rings, the definitions and the counters into the spool file.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "hooks/c_library.h"  // sem_clockwait is weak
#include "profiler/collector/clock_reading.h"
#include "profiler/collector/foreign_process.h"
#include "profiler/collector/page_use.h"
#include "profiler/collector/state.h"
#include "profiler/collector/ticks.h"

namespace preserve::collector {
namespace {

constexpr int64_t kLookNs = 100'000'000;     // between looks whether the program has ended
constexpr int64_t kLongLookNs = 10'000'000;  // at the pages
constexpr int64_t kUnaskedNs = 1'000'000;    // where threads of the program may ask for nothing
// The launcher's clock is read at the start, and the longer ago that was the less often.
constexpr int64_t kFirstClockNs = 1'000'000'000, kClockNs = 60'000'000'000;

using Counters = std::atomic<uint64_t>[kSourceCount];

// Writes the counters when they have changed since `reported`. A record that is refused is received
// a moment before it is dropped, so both count as a change.
void report(uint64_t thread, const Counters& received, const Counters& dropped,
            uint64_t& reported) {
  const spool::StatisticsBody body{
      thread,
      received[kNvtx].load(std::memory_order_relaxed),
      dropped[kNvtx].load(std::memory_order_relaxed),
      received[kMpi].load(std::memory_order_relaxed),
      dropped[kMpi].load(std::memory_order_relaxed),
      received[kCuda].load(std::memory_order_relaxed),
      dropped[kCuda].load(std::memory_order_relaxed),
  };
  const uint64_t sum = body.nvtx_received + body.nvtx_dropped + body.mpi_received +
                       body.mpi_dropped + body.cuda_received + body.cuda_dropped;
  if (sum == reported) return;
  reported = sum;
  g.file.add_control(spool::RecordType::statistics, &body, sizeof(body));
}

// The NVTX records of all threads that --sample left out.
void report_sampled() {
  uint64_t sampled = g.ended_sampled;
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (log->has_owner()) sampled += log->sampled.load(std::memory_order_relaxed);
  }
  if (sampled == g.sampled_reported) return;
  g.sampled_reported = sampled;
  const spool::DefinitionBody body{sampled, 0, 0, 0};
  g.file.add_control(spool::RecordType::sampled, &body, sizeof(body));
}

// The kernel walks the page tables for it, a quarter of a second for 100 GB of small pages: ever
// more seldom, and no more after a look that took long.
void report_page_use() {
  const uint64_t look = ++g.looks_at_pages;
  if (g.pages_take_long || (look & (look - 1)) != 0) return;
  const int64_t start_ns = safe_monotonic_ns();
  PageUse use;
  if (!read_page_use(&use)) return;
  g.pages_take_long = safe_monotonic_ns() - start_ns > kLongLookNs;
  const spool::DefinitionBody body{use.huge_bytes, 0, 0, use.anonymous_bytes};
  g.file.add_control(spool::RecordType::pages, &body, sizeof(body));
}

void report(ThreadLog& log) {
  report(uint64_t{log.ordinal} << 32 | log.tid, log.received, log.dropped, log.reported);
}

void report_statistics() {
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (log->has_owner()) report(*log);
  }
  report(0, g.homeless_received, g.homeless_dropped, g.homeless_reported);
  report_sampled();
  report_page_use();
  for (State::Undescribed& function : g.undescribed) {
    const uint64_t calls = function.calls.load(std::memory_order_relaxed);
    if (calls == function.reported) continue;
    const spool::DefinitionBody body{calls, 0, 0, 0};
    g.file.add_control(spool::RecordType::undescribed, &body, sizeof(body), 0, 0,
                       function.name.load(std::memory_order_relaxed));
    function.reported = calls;
  }
}

// `last`: there will be no better moment. Else rings that fill up are more urgent.
void read_clock(bool last) {
  static bool urgent_too;
  urgent_too = last;
  const auto stop = [] {
    return g.clock_forbidden.load() || g.calls_forbidden.load() || g.pause_asked.load() ||
           (!urgent_too && g.wake_pending.load(std::memory_order_relaxed));
  };
  ClockReading reading;
  g.clock_asked.store(true);
  const bool known = !stop() && read_launchers_clock(&reading, stop);
  g.clock_asked.store(false);
  if (!known) return;
  const spool::DefinitionBody body{static_cast<uint64_t>(reading.local_ns),
                                   static_cast<uint64_t>(reading.launcher_ns),
                                   static_cast<uint64_t>(reading.round_trip_ns), 0};
  g.file.add_control(spool::RecordType::host_clock, &body, sizeof(body));
}

// The oldest records make room. What was said of the whole process is said again, and counters of
// threads whose last word goes become the process's own.
bool begin_next_half() {
  bool lost = false;
  if (!g.file.next_half(definitions.first(g.older_definitions), &lost)) return false;
  ++g.halves;
  g.older_definitions = definitions.written();
  for (int source = 0; source < kSourceCount; ++source) {
    if (lost) {
      g.homeless_received[source].fetch_add(g.ended_received[0][source]);
      g.homeless_dropped[source].fetch_add(g.ended_dropped[0][source]);
    }
    g.ended_received[0][source] = std::exchange(g.ended_received[1][source], 0);
    g.ended_dropped[0][source] = std::exchange(g.ended_dropped[1][source], 0);
  }
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (log->has_owner()) log->reported = 0;
  }
  g.homeless_reported = g.sampled_reported = 0;
  g.looks_at_pages = 0;
  for (State::Undescribed& function : g.undescribed) function.reported = 0;
  return true;
}

template <typename Write>
bool write_into_a_half(const Write& write) {
  return write() || (g.file.half_is_full() && begin_next_half() && write());
}

// False when the file takes no more now: what was not written stays where it is.
bool write_records() {
  if (!write_into_a_half([] { return definitions.write(g.file); })) return false;
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (!log->has_owner()) continue;
    const Ring::Readable part = log->ring.readable();
    if (part.first_bytes + part.second_bytes == 0) continue;
    if (!write_into_a_half([&] {
          return g.file.write_chunk({log->tid, log->ordinal}, part.first, part.first_bytes,
                                    part.second, part.second_bytes);
        })) {
      return false;
    }
    log->ring.consume(part.upto);
  }
  return true;
}

}  // namespace

uint32_t half_for(size_t bytes) {
  if (g.file.needs_next_half(bytes)) (void)begin_next_half();
  return g.halves;
}

size_t chunk_bytes(size_t bytes) {
  return g.keep_last ? std::min(bytes, static_cast<size_t>(g.spool_limit) / 8) : bytes;
}

// An anchor and the definitions first: what a record refers to was defined before it was made.
// Statistics last: they speak of what is in the file. While the file takes no more (disk full)
// rings fill up and refuse, and only the end writes statistics: what is lost is counted.
void write_everything(bool stopping) {
  if (!g.file.write_header()) return;
  if (!g.file.stuck()) g.file.add_anchor();
  const bool written = g.file.write_control() && write_records();
  if (!written && !stopping) return;
  if (const BackgroundSource source = g.background.load(std::memory_order_acquire)) source(g.file);
  report_statistics();
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    // Its thread is gone and everything of it is written: the next new thread may have the ring.
    if (log->state.load(std::memory_order_acquire) != ThreadLog::kFinished) continue;
    if (log->ring.readable().first_bytes > 0) continue;
    report(*log);  // it may have ended since
    for (int source = 0; source < kSourceCount; ++source) {
      g.ended_received[1][source] += log->received[source].load(std::memory_order_relaxed);
      g.ended_dropped[1][source] += log->dropped[source].load(std::memory_order_relaxed);
    }
    g.ended_sampled += log->sampled.load(std::memory_order_relaxed);
    log->state.store(ThreadLog::kFree, std::memory_order_release);
  }
  g.file.write_control();
}

void finish() {
  write_everything(true);
  if (g.file.write_header()) {
    g.file.add_trailer();
    g.file.write_control();
  }
  g.file.close();
  g.run.store(kStopped, std::memory_order_release);
}

bool writer_has_ended() {
  if (!g.writer_left.load(std::memory_order_acquire)) return false;
  const int taken = pthread_mutex_trylock(&g.writer_lives);
  if (taken == EOWNERDEAD) pthread_mutex_consistent(&g.writer_lives);
  if (taken == 0 || taken == EOWNERDEAD) pthread_mutex_unlock(&g.writer_lives);
  return taken != EBUSY;
}

void* writer_main(void*) {
  may_ask_time = true;
  pthread_mutex_lock(&g.writer_lives);
  (void)g.file.write_header();
  read_clock(false);
  int64_t clock_pause_ns = kFirstClockNs, clock_ns = safe_monotonic_ns() + clock_pause_ns;
  int64_t flush_ns = safe_monotonic_ns() + g.flush_ns;
  int64_t period_ns = flush_ns;
  while (true) {
    const bool unasked = g.calls_forbidden.load(std::memory_order_acquire);
    const int64_t due_ns =
        std::min(safe_monotonic_ns() + (unasked ? kUnaskedNs : kLookNs), flush_ns);
    const timespec due{due_ns / 1'000'000'000, due_ns % 1'000'000'000};
    if (safe_monotonic_ns() >= period_ns) {
      sample_period.fetch_add(1, std::memory_order_relaxed);
      period_ns = safe_monotonic_ns() + g.flush_ns;
    }
    const bool woken = sem_clockwait(&g.wake, CLOCK_MONOTONIC, &due) == 0;
    // Without /proc it ends too, rather than keep a process: what rings do not hold is counted.
    if (!woken && program_has_ended(!unasked)) {
      g.calls_forbidden.store(false);  // to threads of the program
      write_everything(false);         // after a bare exit system call no exit handler runs
      g.writer_left.store(true, std::memory_order_release);
      return before_end();
    }
    if (!woken && !unasked && safe_monotonic_ns() < flush_ns) continue;
    flush_ns = safe_monotonic_ns() + g.flush_ns;
    g.wake_pending.store(false, std::memory_order_release);
    if (g.pause_asked.load(std::memory_order_acquire)) {
      write_everything(false);
      leave_thread();
      g.writer_left.store(true, std::memory_order_release);
      return nullptr;
    }
    const bool stopping = g.run.load(std::memory_order_acquire) == kStopping;
    const uint64_t asked = g.flushes_asked.load(std::memory_order_acquire);
    const bool last = g.clock_due.exchange(false) || stopping;
    if (last || safe_monotonic_ns() >= clock_ns) {
      // The launcher may take a second to answer, and end this process meanwhile.
      if (last && !stopping) write_everything(false);
      read_clock(last);
      clock_pause_ns = std::min(2 * clock_pause_ns, kClockNs);
      clock_ns = safe_monotonic_ns() + clock_pause_ns;
    }
    if (stopping) {
      finish();
    } else {
      write_everything(false);
      // Full rings ask to be written at every record; while that is in vain nobody needs to ask.
      if (g.file.stuck()) g.wake_pending.store(true, std::memory_order_release);
    }
    g.flushes_done.store(asked, std::memory_order_release);
    if (stopping) return nullptr;
  }
}

}  // namespace preserve::collector
