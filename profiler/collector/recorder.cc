// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/recorder.h"

#include <linux/kcmp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "hooks/c_library.h"
#include "hooks/unnoticed.h"
#include "profiler/collector/clock_reading.h"
#include "profiler/collector/foreign_process.h"
#include "profiler/collector/state.h"

namespace preserve::collector {

__thread ThreadLog* tls_log __attribute__((tls_model("initial-exec"))) = nullptr;
__thread bool muted __attribute__((tls_model("initial-exec"))) = false;

uint32_t sample_first = 0;
std::atomic<uint32_t> sample_period{1};

constinit State g;

namespace {

constexpr size_t kDefaultRingBytes = 1 << 20;
constexpr size_t kDefaultRingTotal = size_t{256} << 20;
constexpr int64_t kDefaultFlushMs = 100;
constexpr size_t kSmallRings = 32;  // in one, once half of the memory for rings is in use
// Of a limited address space, which the program needs itself:
constexpr size_t kShareOfOne = 64;    // at most this part for one piece of memory
constexpr size_t kShareOfRings = 16;  // and for all rings
constexpr int64_t kWaitForWriterNs = 2'000'000'000;

// ---------------------------------------------------------------- life cycle

// That the program may use; private memory that can be written counts as its data too.
size_t address_space() {
  size_t least = SIZE_MAX;
  for (const auto resource : {RLIMIT_AS, RLIMIT_DATA}) {
    rlimit limit{};
    if (::getrlimit(resource, &limit) == 0) least = std::min<size_t>(least, limit.rlim_cur);
  }
  return least;
}

// Its fork ran no handlers.
bool in_unseen_child() {
  const std::atomic<uint32_t>* same = g.same_process.load(std::memory_order_acquire);
  return same != nullptr && same->load(std::memory_order_relaxed) == 0;
}

// Where the writer has left, threads of the program write, one at a time.
std::atomic<bool> writing_instead{false};

void write_instead(void (*write)(), int64_t patience_ns) {
  const int64_t give_up_ns = safe_monotonic_ns() + patience_ns;
  while (writing_instead.exchange(true, std::memory_order_acquire)) {
    if (safe_monotonic_ns() >= give_up_ns) return;
    ::usleep(100);
  }
  without_signals(write);
  writing_instead.store(false, std::memory_order_release);
}

void shut_down() {
  int running = kRunning;
  if (g.run.load() != running) return;
  const Unnoticed unnoticed;
  const bool calls = !g.calls_forbidden.load(std::memory_order_acquire);
  if (calls && g.pid != ::getpid()) return;  // a child whose fork ran no handlers has no writer
  if (!calls && (in_unseen_child() || g.writer_left.load())) return;
  if (!g.run.compare_exchange_strong(running, kStopping)) return;
  if (g.writer_left.load(std::memory_order_acquire)) {
    return write_instead(finish, calls ? kWaitForWriterNs : 0);
  }
  const int64_t give_up_ns = safe_monotonic_ns() + kWaitForWriterNs;
  if (calls) sem_post(&g.wake);
  while (g.run.load(std::memory_order_acquire) == kStopping && safe_monotonic_ns() < give_up_ns) {
    if (calls) ::usleep(100);
  }
}

void thread_exits(void* value) {
  tls_log = nullptr;
  static_cast<ThreadLog*>(value)->state.store(ThreadLog::kFinished, std::memory_order_release);
  if (g.ring_reserved.load(std::memory_order_relaxed) > g.ring_total / 2) wake_writer();
}

// Forks of this thread that go without a lock, since the fork is in a signal handler that
// interrupted the holder.
__thread int forks_without[2] __attribute__((tls_model("initial-exec"))) = {};

void before_fork() {
  const Unnoticed unnoticed;
  if (!g.start_lock.take()) ++forks_without[0];
  if (!definitions.lock().take()) ++forks_without[1];
}
void after_fork(BoundedLock& lock, int& without) {
  if (without > 0) {
    --without;
  } else {
    lock.release();
  }
}
void after_fork_in_parent() {
  after_fork(definitions.lock(), forks_without[1]);
  after_fork(g.start_lock, forks_without[0]);
}
// A child has neither the writer thread nor a file of its own, and its copies of the rings are
// empty. It starts afresh at its first record; the definitions are kept, since handles and memory
// came along.
void start_over() {
  g.file.close();
  leave_process();
  g.logs.store(nullptr);
  g.ring_reserved.store(0);
  if (tls_log != nullptr) pthread_setspecific(g.exit_key, nullptr);
  tls_log = nullptr;
  definitions.start_over();
  for (int source = 0; source < kSourceCount; ++source) {
    g.homeless_received[source].store(0);
    g.homeless_dropped[source].store(0);
  }
  g.homeless_reported = 0;
  for (auto* ended : {g.ended_received, g.ended_dropped}) {
    for (int half = 0; half < 2; ++half) std::fill_n(ended[half], +kSourceCount, 0);
  }
  g.older_definitions = 0;
  g.ended_sampled = g.sampled_reported = 0;
  for (State::Undescribed& function : g.undescribed) {
    function.calls.store(0);
    function.reported = 0;
  }
  g.wake_pending.store(false);
  g.flushes_asked.store(0);
  g.flushes_done.store(0);
  g.writer_left.store(false);
  writing_instead.store(false);
  g.pause_asked.store(false);
  g.clock_asked.store(false);
  if (auto* same = g.same_process.load(std::memory_order_acquire)) {
    same->store(1, std::memory_order_relaxed);
  }
  g.run.store(kIdle);
}
void after_fork_in_child() {
  const Unnoticed unnoticed;
  start_over();
  after_fork_in_parent();
}
// Memory that a forked child sees zeroed, where the kernel can do that.
void* map_own_memory(size_t bytes) {
  void* memory = map_memory(bytes);
  if (memory != nullptr) (void)::madvise(memory, bytes, MADV_WIPEONFORK);
  return memory;
}

// In a child of vfork the thread is the parent's, and so is the memory. A thread that is started
// there dies with the child, while the C library counts it as one of the parent's: the parent would
// never see its last thread end. The C library keeps the thread's number, the kernel gives another;
// so it is in a child whose fork ran no handlers, but that has memory of its own.
bool on_borrowed_thread() {
  clockid_t clock = 0;
  if (pthread_getcpuclockid(pthread_self(), &clock) != 0) return false;
  if (~(clock >> 3) == ::gettid()) return false;  // how glibc and musl make the clock of a thread
  return ::syscall(SYS_kcmp, ::getpid(), ::getppid(), KCMP_VM, 0, 0) == 0;
}

// Once per process, and again in a forked child. Runs under start_lock.
bool start() {
  static bool prepared = false;  // survives a fork
  if (!prepared) {
    size_t ring = 4096;
    const auto wanted = static_cast<size_t>(
        environment_number("PRESERVE_RING_BYTES", 4096, int64_t{1} << 30, kDefaultRingBytes));
    while (ring < wanted) ring *= 2;
    g.ring_bytes = ring;
    const auto total = static_cast<size_t>(environment_number(
        "PRESERVE_RING_TOTAL", 4096, int64_t{1} << 40, static_cast<int64_t>(kDefaultRingTotal)));
    g.ring_total = std::min(total, address_space() / kShareOfRings);
    g.spool_limit = environment_number("PRESERVE_MAX_SPOOL", 1, INT64_MAX, INT64_MAX);
    g.keep_last = environment_number("PRESERVE_KEEP_LAST", 0, 1, 0) == 1;
    const auto most = static_cast<size_t>(g.spool_limit) / 4;  // a ring fits into half a file
    while (g.keep_last && g.ring_bytes > std::max(most, size_t{4096})) g.ring_bytes /= 2;
    if (void* page = map_own_memory(4096)) {
      g.same_process.store(new (page) std::atomic<uint32_t>(1), std::memory_order_release);
    }
    g.flush_ns = environment_number("PRESERVE_FLUSH_MS", 1, 3'600'000, kDefaultFlushMs) * 1'000'000;
    if (pthread_key_create(&g.exit_key, thread_exits) != 0) return false;
    (void)hooks::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    hooks::at_quick_exit<shut_down>();
    prepared = true;
  }
  sem_init(&g.wake, 0, 0);
  pthread_mutexattr_t robust;
  pthread_mutexattr_init(&robust);
  pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&g.writer_lives, &robust);
  pthread_mutexattr_destroy(&robust);
  g.pid = ::getpid();
  begin_process();
  remember_launcher();
  return g.file.create(::getenv("PRESERVE_SPOOL_DIR"),
                       static_cast<uint32_t>(g.flush_ns / 1'000'000), g.spool_limit, g.keep_last,
                       environment_number("PRESERVE_LEAST_FREE", 0, INT64_MAX / 2, 0)) &&
         start_thread("preserve-spool", writer_main);
}

bool running() {
  start_over_if_forked();
  const int run = g.run.load(std::memory_order_acquire);
  if (run == kRunning) return true;
  if (run != kIdle || !recording_wanted() || g.start_forbidden.load()) return false;
  if (on_borrowed_thread()) return false;
  if (!g.start_lock.take()) return false;
  if (g.run.load() == kIdle) g.run.store(start() ? kRunning : kFailed, std::memory_order_release);
  g.start_lock.release();
  return g.run.load() == kRunning;
}

// Claimed, as is a new one: the writer leaves it alone until attach_thread() has reset it.
ThreadLog* take_free_log(size_t least_bytes) {
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    uint32_t free = ThreadLog::kFree;
    if (log->state.load(std::memory_order_relaxed) != ThreadLog::kFree) continue;
    if (log->ring.size_bytes() < least_bytes) continue;
    if (log->state.compare_exchange_strong(free, ThreadLog::kClaimed)) return log;
  }
  return nullptr;
}

ThreadLog* make_log(size_t ring_bytes) {
  if (g.ring_reserved.fetch_add(ring_bytes) + ring_bytes > g.ring_total) {
    g.ring_reserved.fetch_sub(ring_bytes);
    return nullptr;
  }
  const size_t own_bytes = (sizeof(ThreadLog) + 4095) & ~size_t{4095};
  auto* memory = static_cast<char*>(map_own_memory(own_bytes + ring_bytes));
  if (memory == nullptr) {
    g.ring_reserved.fetch_sub(ring_bytes);
    return nullptr;
  }
  auto* log = new (memory) ThreadLog;
  log->ring.attach(memory + own_bytes, ring_bytes);
  log->state.store(ThreadLog::kClaimed, std::memory_order_relaxed);
  log->next = g.logs.load(std::memory_order_relaxed);
  while (!g.logs.compare_exchange_weak(log->next, log, std::memory_order_release)) {
  }
  return log;
}

// Thousands of threads that each live shortly must not wait for the writer to give their rings on:
// when half of the memory is in use, new ones are small.
ThreadLog* take_log() {
  if (ThreadLog* log = take_free_log(g.ring_bytes)) return log;
  if (g.ring_reserved.load(std::memory_order_relaxed) < g.ring_total / 2) {
    if (ThreadLog* log = make_log(g.ring_bytes)) return log;
  }
  if (ThreadLog* log = take_free_log(0)) return log;
  return make_log(std::max(size_t{4096}, g.ring_bytes / kSmallRings));
}

ThreadLog* attach_thread() {
  if (muted || !running() || g.calls_forbidden.load(std::memory_order_acquire)) return nullptr;
  ThreadLog* log = take_log();
  if (log == nullptr) return nullptr;
  log->ring.restart();
  log->tid = static_cast<uint32_t>(::gettid());
  log->ordinal = g.ordinal.fetch_add(1, std::memory_order_relaxed) + 1;
  log->open_pushes = log->skipped_pushes = 0;
  std::memset(log->skipped, 0, sizeof(log->skipped));
  for (int source = 0; source < kSourceCount; ++source) {
    log->received[source].store(0, std::memory_order_relaxed);
    log->dropped[source].store(0, std::memory_order_relaxed);
  }
  log->sampled.store(0, std::memory_order_relaxed);
  log->sampled_out = 0;
  log->reported = 0;
  log->state.store(ThreadLog::kInUse, std::memory_order_release);
  pthread_setspecific(g.exit_key, log);
  tls_log = log;
  return log;
}

// Here, since a program that gives up system calls may use NVTX for the first time after that: NVTX
// then opens this module by name, which takes memory, and the C library's first is not without
// system calls.
__attribute__((constructor)) void at_load() {
  if (!recording_wanted()) return;
  void* volatile first = ::malloc(1);
  ::free(first);
}
__attribute__((destructor)) void at_exit() {
  shut_down();
}

}  // namespace

void start_over_if_forked() {
  if (!in_unseen_child()) return;
  const Unnoticed unnoticed;
  g.start_lock.reset();
  definitions.lock().reset();
  start_over();
}

int64_t environment_number(const char* name, int64_t low, int64_t high, int64_t otherwise) {
  const char* text = ::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const long long value = ::strtoll(text, &end, 10);
  return *end == '\0' && value >= low && value <= high ? value : otherwise;
}

void* map_memory(size_t bytes) {
  if (g.calls_forbidden.load() || bytes > address_space() / kShareOfOne) return nullptr;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool recording_wanted() {
  enum { kUnknown, kNo, kYes };
  // No function-local constant: its guard hangs when a signal handler interrupts the first call.
  static std::atomic<int> wanted{kUnknown};
  const int known = wanted.load(std::memory_order_acquire);
  if (__builtin_expect(known != kUnknown, 1)) return known == kYes;
  const KeepErrno kept;
  const char* folder = ::getenv("PRESERVE_SPOOL_DIR");
  const bool yes = folder != nullptr && *folder == '/' && hooks::is_glibc() && !is_static_program();
  if (yes) {
    sample_first = static_cast<uint32_t>(environment_number("PRESERVE_SAMPLE", 0, INT32_MAX, 0));
    choose_clock();  // everybody who reads ticks has asked this first
  }
  wanted.store(yes ? kYes : kNo, std::memory_order_release);
  return yes;
}

ThreadLog* attach_this_thread(Source source) {
  const Unnoticed unnoticed;
  ThreadLog* log = attach_thread();
  if (log == nullptr) count_lost(source);
  return log;
}

void mute_this_thread() {
  muted = true;
  tls_log = nullptr;
}

void count_lost(Source source) {
  g.homeless_received[source].fetch_add(1, std::memory_order_relaxed);
  g.homeless_dropped[source].fetch_add(1, std::memory_order_relaxed);
}

void refused(ThreadLog& log, Source source) {
  if (log.ring.interrupted()) return count_lost(source);  // maybe while counting
  if (log.ring.size_bytes() != 0) {
    log.count(log.received[source]);
    log.count(log.dropped[source]);
    return wake_writer();
  }
  // A child sees its parent's ring so. This record is lost, the next finds a ring of the child.
  start_over_if_forked();
  count_lost(source);
}

void wake_writer() {
  if (g.wake_pending.load(std::memory_order_relaxed) || g.calls_forbidden.load()) return;
  if (!g.wake_pending.exchange(true, std::memory_order_acq_rel)) sem_post(&g.wake);
}

void flush_now() {
  if (g.run.load(std::memory_order_acquire) != kRunning || g.calls_forbidden.load()) return;
  if (g.pid != ::getpid()) return;
  const Unnoticed unnoticed;
  if (g.writer_left.load(std::memory_order_acquire)) {
    return write_instead([] { write_everything(false); }, 0);  // else somebody is at it
  }
  const uint64_t ticket = g.flushes_asked.fetch_add(1) + 1;
  const int64_t give_up_ns = safe_monotonic_ns() + kWaitForWriterNs;
  sem_post(&g.wake);
  while (g.flushes_done.load(std::memory_order_acquire) < ticket &&
         safe_monotonic_ns() < give_up_ns) {
    ::usleep(100);
  }
}

void begin_last_flush() {
  g.clock_due.store(true);
  if (g.run.load(std::memory_order_acquire) == kRunning) wake_writer();
}

std::atomic<RangeWatch> range_watch{nullptr};

void set_background_source(BackgroundSource source) {
  g.background.store(source, std::memory_order_release);
}

void set_range_watch(RangeWatch watch) {
  range_watch.store(watch, std::memory_order_release);
}

void count_undescribed(const char* name) {
  if (!running()) return;
  for (State::Undescribed& function : g.undescribed) {
    const char* known = function.name.load(std::memory_order_acquire);
    if (known == nullptr && function.name.compare_exchange_strong(known, name)) known = name;
    if (known != name) continue;
    function.calls.fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

}  // namespace preserve::collector
