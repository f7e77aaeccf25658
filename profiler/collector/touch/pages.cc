// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/touch/pages.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>

#include "hooks/c_library.h"
#include "hooks/listener.h"
#include "hooks/unnoticed.h"
#include "profiler/collector/bounded_lock.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/ticks.h"

// The bounds of the module's own code, from the linker.
extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" const char etext[] __attribute__((visibility("hidden")));

namespace preserve::collector::touch {
namespace {

using hooks::Allocation;
using hooks::Allocations;

constexpr uint32_t kLog = 1 << 14;
constexpr int kMostRetries = 8;  // of one instruction: threads may undo each other's protection
constexpr size_t kSignalStackBytes = 64 << 10;

struct Protected {
  std::atomic<uint64_t> begin{0}, end{0};  // whole pages
  std::atomic<int> protection{0};          // the program's own
};
struct Touched {
  std::atomic<uint64_t> ticks{0};  // 0: not written yet
  uint64_t begin = 0, bytes = 0;
  bool write = false;
};

std::atomic<size_t> least_bytes{SIZE_MAX};  // reported by hooks/memory
std::atomic<bool> stopped{false};           // for good
std::atomic<int> pauses{0}, calls{0};       // under way, on all threads
std::atomic<int64_t> requests{0};           // non-blocking communication under way

BoundedLock lock;         // of what follows
Allocations allocations;  // living
bool handler_installed = false;

// Written under the lock while nothing is protected; read by the handler.
Protected pages[Allocations::kMost];
std::atomic<uint32_t> page_count{0};  // 0: nothing is protected
std::atomic<uint64_t> interval{0}, piece_bytes{0};

Touched touches[kLog];
std::atomic<uint32_t> touched{0};

struct Cost {
  std::atomic<uint64_t> faults{0}, lost{0};
  std::atomic<int64_t> ns{0};
};
Cost cost;
std::atomic<const char*> why_stopped{""};

class Spent {
 public:
  ~Spent() { cost.ns.fetch_add(safe_monotonic_ns() - begin_ns_, std::memory_order_relaxed); }

 private:
  const int64_t begin_ns_ = safe_monotonic_ns();
};

uint64_t page_bytes() {
  static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

// A system call of its own: mprotect() of this library would tell ourselves.
void protect(uint64_t begin, uint64_t end, int protection) {
  // A limit on mappings (ENOMEM) leaves the pages as they are: to be asked again at the next fault.
  (void)::syscall(SYS_mprotect, begin, end - begin, protection);
}

// --- under the lock ---

void unprotect_all() {
  const uint32_t count = page_count.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t begin = pages[i].begin.load(std::memory_order_relaxed);
    const uint64_t end = pages[i].end.load(std::memory_order_relaxed);
    if (begin < end) protect(begin, end, pages[i].protection.load(std::memory_order_relaxed));
  }
  page_count.store(0, std::memory_order_release);
}

// Before it is released.
void unprotect_one(const Allocation& allocation) {
  const uint32_t count = page_count.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t begin = pages[i].begin.load(std::memory_order_relaxed);
    const uint64_t end = pages[i].end.load(std::memory_order_relaxed);
    if (begin < allocation.begin || end > allocation.begin + allocation.bytes || begin >= end) {
      continue;
    }
    pages[i].end.store(begin, std::memory_order_relaxed);
    protect(begin, end, pages[i].protection.load(std::memory_order_relaxed));
  }
}

// Of this thread, so that a fault on a stack inside protected memory can be handled.
void have_signal_stack() {
  static thread_local bool asked __attribute__((tls_model("initial-exec"))) = false;
  if (asked) return;
  asked = true;
  stack_t now{};
  if (::sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) return;
  if (void* memory = map_memory(kSignalStackBytes)) {
    stack_t own{};
    own.ss_sp = memory;
    own.ss_size = kSignalStackBytes;
    (void)::sigaltstack(&own, nullptr);
  }
}

void protect_all() {
  if (!handler_installed) install_handler();
  handler_installed = true;
  have_signal_stack();
  const auto stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uint64_t number = interval.fetch_add(1, std::memory_order_relaxed);
  piece_bytes.store(piece_bytes_of(number), std::memory_order_relaxed);
  const uint64_t page = page_bytes();
  uint32_t count = 0;
  for (const Allocation& allocation : allocations) {
    const uint64_t begin = (allocation.begin + page - 1) / page * page;
    const uint64_t end = (allocation.begin + allocation.bytes) / page * page;
    if (begin >= end || (allocation.begin <= stack && stack < end)) continue;
    pages[count].begin.store(begin, std::memory_order_relaxed);
    pages[count].end.store(end, std::memory_order_relaxed);
    pages[count].protection.store(allocation.protection, std::memory_order_relaxed);
    ++count;
  }
  page_count.store(count, std::memory_order_release);  // before the first fault
  for (uint32_t i = 0; i < count; ++i) {
    protect(pages[i].begin.load(std::memory_order_relaxed),
            pages[i].end.load(std::memory_order_relaxed), PROT_NONE);
  }
}

// --- what the rest calls ---

void unprotect() {
  if (!lock.take()) return;  // this thread was interrupted in here, or another one was killed
  if (page_count.load(std::memory_order_relaxed) > 0) {
    const Spent spent;
    unprotect_all();
  }
  lock.release();
}

void stop(const char* why) {
  if (stopped.exchange(true)) return;
  why_stopped.store(why, std::memory_order_relaxed);
  unprotect();
}

// Into this thread's ring, where that is safe: a fault may have interrupted a record.
void write_log() {
  const uint32_t count = touched.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < std::min(count, kLog); ++i) {
    const uint64_t ticks = touches[i].ticks.exchange(0, std::memory_order_acquire);
    if (ticks == 0) {
      cost.lost.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    record_definition(
        spool::RecordType::touch, 0,
        {ticks, touches[i].write ? uint64_t{1} : 0, touches[i].begin, touches[i].bytes});
  }
  if (count > kLog) cost.lost.fetch_add(count - kLog, std::memory_order_relaxed);
  if (count > 0) touched.store(0, std::memory_order_release);
}

void call_began() {
  if (stopped.load(std::memory_order_relaxed)) return;
  const Unnoticed unnoticed;
  calls.fetch_add(1);
  unprotect();
  write_log();
}

void call_ended(uint16_t function) {
  if (stopped.load(std::memory_order_relaxed)) return;
  if (calls.fetch_sub(1) != 1 || requests.load() != 0 || pauses.load() != 0) return;
  // Polling: what follows is no computation yet.
  if (mpi::is_test(function)) return;
  const Unnoticed unnoticed;
  if (!lock.take()) return;
  // A call that begins now unprotects once it has the lock.
  if (calls.load() == 0 && pauses.load() == 0 && page_count.load() == 0) {
    const Spent spent;
    protect_all();
  }
  lock.release();
}

void requested(int more) {
  requests.fetch_add(more);
}

void undescribed(const char* name) {
  stop(name);
}

void ending() {
  unprotect();
  write_log();
  if (interval.load() > 0 || *why_stopped.load() != '\0') {
    define(spool::RecordType::touch, 0,
           {static_cast<uint64_t>(cost.ns.load()), cost.faults.load(), 0, interval.load()},
           why_stopped.load());
  }
}

constexpr CallWatch kWatch{call_began, call_ended, requested, undescribed, ending};

void before_fork() {
  unprotect();
  (void)lock.take();
}
void in_parent() {
  lock.release();
}
// The child's memory is as the program left it; its touches are nobody's.
void in_child() {
  lock.reset();
  stopped.store(true);
  least_bytes.store(SIZE_MAX);
}

__attribute__((constructor)) void at_load() {
  if (!recording_wanted() || !hooks::at_fork(before_fork, in_parent, in_child)) return;
  sigset_t faults;
  ::sigemptyset(&faults);
  ::sigaddset(&faults, SIGSEGV);
  ::pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
  call_watch.store(&kWatch, std::memory_order_release);
  least_bytes.store(hooks::kLeastAllocationBytes, std::memory_order_release);
}

bool is_write(const void* context) {
  constexpr greg_t kWrite = 2;  // of a page fault's error code (x86-64)
  return (static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & kWrite) != 0;
}

}  // namespace

uint64_t piece_bytes_of(uint64_t number) {
  uint64_t x = (number + 1) * 0x9e3779b97f4a7c15;  // splitmix64: never in step with a period
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  if (x % kFinestEvery == 0) return kFinestPieceBytes;
  return x % kRefinedEvery == 0 ? kPieceBytes : 0;
}

Pause::Pause(const void* caller) : counts_(caller < __ehdr_start || caller >= etext) {
  if (!counts_) return;
  pauses.fetch_add(1);
  if (!stopped.load(std::memory_order_relaxed)) {
    const KeepErrno kept;
    unprotect();
  }
}
Pause::~Pause() {
  if (counts_) pauses.fetch_sub(1);
}

bool resolve(const siginfo_t& info, const void* context) {
  struct Last {
    uint64_t address, interval;
    int tries;
  };
  static thread_local Last last __attribute__((tls_model("initial-exec"))) = {};
  if (info.si_code != SEGV_ACCERR) return false;
  const Spent spent;
  const auto address = reinterpret_cast<uintptr_t>(info.si_addr);
  const uint64_t now = interval.load(std::memory_order_relaxed);
  // Memory that another thread unprotects in this moment is not found, and is all right.
  last = last.address == address && last.interval == now ? Last{address, now, last.tries + 1}
                                                         : Last{address, now, 0};
  if (last.tries == kMostRetries) return false;
  const bool write = is_write(context);
  const uint32_t count = page_count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t begin = pages[i].begin.load(std::memory_order_relaxed);
    uint64_t end = pages[i].end.load(std::memory_order_relaxed);
    if (address < begin || address >= end) continue;
    const int own = pages[i].protection.load(std::memory_order_relaxed);
    if (write && (own & PROT_WRITE) == 0) return false;
    if (const uint64_t piece = piece_bytes.load(std::memory_order_relaxed)) {
      begin += (address - begin) / piece * piece;
      end = std::min(end, begin + piece);
    }
    protect(begin, end, write ? own : own & ~PROT_WRITE);
    cost.faults.fetch_add(1, std::memory_order_relaxed);
    const uint32_t at = touched.fetch_add(1, std::memory_order_relaxed);
    if (at < kLog) {
      touches[at].begin = begin;
      touches[at].bytes = end - begin;
      touches[at].write = write;
      touches[at].ticks.store(ticks_now(), std::memory_order_release);
    }
    return true;
  }
  return true;
}

}  // namespace preserve::collector::touch

namespace preserve {

using namespace collector;
using namespace collector::touch;

size_t listener::memory_least_bytes() {
  return least_bytes.load(std::memory_order_acquire);
}

void listener::memory_came(const void* begin, size_t bytes, int protection) {
  if (bytes < hooks::kLeastAllocationBytes || (protection & PROT_READ) == 0 ||
      (protection & PROT_EXEC) != 0) {
    return;
  }
  const auto base = reinterpret_cast<uintptr_t>(begin);
  const Unnoticed unnoticed;
  hooks::AllocationName room;
  std::string_view name;
  if (!lock.take()) return;
  if (const hooks::Allocation* added = allocations.add(base, bytes, protection)) {
    name = hooks::Allocations::name(*added, room);
  }
  lock.release();
  if (name.empty()) return;
  collector::define(spool::RecordType::region, 0, {0, 0, base, bytes});
  collector::define(spool::RecordType::region_name, 0, {0, 0, base, 0}, name);
}

// What cannot be followed must not be protected later: it may belong to somebody else then.
void listener::memory_goes(const void* begin, size_t bytes, int) {
  const auto base = reinterpret_cast<uintptr_t>(begin);
  const Unnoticed unnoticed;
  if (!lock.take()) return touch::stop("memory released in a signal handler");
  allocations.remove(base, bytes, [](const hooks::Allocation& gone) {
    unprotect_one(gone);
    collector::define(spool::RecordType::region_unregister, 0, {0, 0, gone.begin, 0});
  });
  lock.release();
}

}  // namespace preserve
