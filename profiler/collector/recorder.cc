// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/recorder.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "profiler/collector/spool_file.h"

namespace preserve::collector {

__thread ThreadLog* tls_log __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

constexpr size_t kDefaultRingBytes = 1 << 20;
constexpr size_t kDefaultRingTotal = size_t{256} << 20;
constexpr int64_t kDefaultFlushMs = 100;
constexpr size_t kUndescribed = 128;  // names of MPI functions
constexpr int64_t kWaitForWriterNs = 2'000'000'000;

enum RunState : int { kIdle, kRunning, kStopping, kStopped, kFailed };

// All of the collector's state. Constant-initialised: usable before any constructor has run.
struct State {
  std::atomic<int> run{kIdle};
  pthread_mutex_t start_mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_key_t exit_key{};
  bool exit_key_made = false;
  SpoolFile file;
  int64_t flush_ns = 0;
  size_t ring_bytes = 0, ring_total = 0;

  std::atomic<ThreadLog*> logs{nullptr};
  std::atomic<size_t> ring_reserved{0};  // bytes of rings that exist
  std::atomic<uint32_t> ordinal{0};      // of threads

  pthread_mutex_t definitions_mutex = PTHREAD_MUTEX_INITIALIZER;
  char* definitions = nullptr;  // kDefinitionsBytes of address space, touched as needed
  std::atomic<size_t> definitions_end{0};
  size_t definitions_written = 0;  // writer thread
  std::atomic<BackgroundSource> background{nullptr};
  std::atomic<uint64_t> homeless_received[kSourceCount] = {};  // no ring: definitions included
  std::atomic<uint64_t> homeless_dropped[kSourceCount] = {};
  uint64_t homeless_reported = 0;
  struct Undescribed {
    std::atomic<const char*> name{nullptr};
    std::atomic<uint64_t> calls{0};
    uint64_t reported = 0;  // writer thread
  } undescribed[kUndescribed];

  sem_t wake{};
  std::atomic<bool> wake_pending{false};
  std::atomic<uint64_t> flushes_asked{0}, flushes_done{0};
};
State g;

// ---------------------------------------------------------------- writer thread

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

void report(ThreadLog& log) {
  report(uint64_t{log.ordinal} << 32 | log.tid, log.received, log.dropped, log.reported);
}

void report_statistics() {
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (log->has_owner()) report(*log);
  }
  report(0, g.homeless_received, g.homeless_dropped, g.homeless_reported);
  for (State::Undescribed& function : g.undescribed) {
    const uint64_t calls = function.calls.load(std::memory_order_relaxed);
    if (calls == function.reported) continue;
    const spool::DefinitionBody body{calls, 0, 0, 0};
    g.file.add_control(spool::RecordType::undescribed, &body, sizeof(body), 0, 0,
                       function.name.load(std::memory_order_relaxed));
    function.reported = calls;
  }
}

// False when the file takes no more now: what was not written stays where it is.
bool write_records() {
  const size_t end = g.definitions_end.load(std::memory_order_acquire);
  if (end > g.definitions_written) {
    if (!g.file.write_chunk({}, g.definitions + g.definitions_written, end - g.definitions_written,
                            nullptr, 0)) {
      return false;
    }
    g.definitions_written = end;
  }
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    if (!log->has_owner()) continue;
    const Ring::Readable part = log->ring.readable();
    if (part.first_bytes + part.second_bytes == 0) continue;
    if (!g.file.write_chunk({log->tid, log->ordinal}, part.first, part.first_bytes, part.second,
                            part.second_bytes)) {
      return false;
    }
    log->ring.consume(part.upto);
  }
  return true;
}

// An anchor and the definitions first: what a record refers to was defined before it was made.
// Statistics last: they speak of what is in the file. While the file takes no more (disk full)
// rings fill up and refuse, and only the end writes statistics: what is lost is counted.
void write_everything(bool stopping) {
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
    log->state.store(ThreadLog::kFree, std::memory_order_release);
  }
  g.file.write_control();
}

void* writer_main(void*) {
  while (true) {
    const int64_t due_ns = monotonic_ns() + g.flush_ns;
    const timespec due{due_ns / 1'000'000'000, due_ns % 1'000'000'000};
    (void)sem_clockwait(&g.wake, CLOCK_MONOTONIC, &due);
    g.wake_pending.store(false, std::memory_order_release);
    const bool stopping = g.run.load(std::memory_order_acquire) == kStopping;
    const uint64_t asked = g.flushes_asked.load(std::memory_order_acquire);
    write_everything(stopping);
    // Full rings ask to be written at every record; while that is in vain nobody needs to ask.
    if (g.file.stuck()) g.wake_pending.store(true, std::memory_order_release);
    if (stopping) {
      g.file.add_trailer();
      g.file.write_control();
      g.file.close();
    }
    g.flushes_done.store(asked, std::memory_order_release);
    if (stopping) {
      g.run.store(kStopped, std::memory_order_release);
      return nullptr;
    }
  }
}

// The writer must not take the program's signals.
bool start_writer() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, writer_main, nullptr);
  if (error == 0) pthread_setname_np(thread, "preserve-spool");
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error == 0;
}

// ---------------------------------------------------------------- life cycle

void shut_down() {
  int running = kRunning;
  if (!g.run.compare_exchange_strong(running, kStopping)) return;
  const int64_t give_up_ns = monotonic_ns() + kWaitForWriterNs;
  sem_post(&g.wake);
  while (g.run.load(std::memory_order_acquire) == kStopping && monotonic_ns() < give_up_ns) {
    ::usleep(100);
  }
}

void thread_exits(void* value) {
  tls_log = nullptr;
  static_cast<ThreadLog*>(value)->state.store(ThreadLog::kFinished, std::memory_order_release);
}

void before_fork() {
  pthread_mutex_lock(&g.start_mutex);
  pthread_mutex_lock(&g.definitions_mutex);
}
void after_fork_in_parent() {
  pthread_mutex_unlock(&g.definitions_mutex);
  pthread_mutex_unlock(&g.start_mutex);
}
// The child has neither the writer thread nor a file of its own. It starts afresh at its first
// record; the definitions are kept, since handles and memory came along.
void after_fork_in_child() {
  g.file.abandon();
  for (ThreadLog* log = g.logs.load(std::memory_order_relaxed); log; log = log->next) {
    log->state.store(ThreadLog::kFree, std::memory_order_relaxed);
  }
  if (tls_log != nullptr) pthread_setspecific(g.exit_key, nullptr);
  tls_log = nullptr;
  g.definitions_written = 0;
  for (int source = 0; source < kSourceCount; ++source) {
    g.homeless_received[source].store(0);
    g.homeless_dropped[source].store(0);
  }
  g.homeless_reported = 0;
  for (State::Undescribed& function : g.undescribed) {
    function.calls.store(0);
    function.reported = 0;
  }
  g.wake_pending.store(false);
  g.flushes_asked.store(0);
  g.flushes_done.store(0);
  g.run.store(kIdle);
  after_fork_in_parent();
}

// Once per process, and again in a forked child. Runs under start_mutex.
bool start() {
  static bool prepared = false;  // survives a fork
  if (!prepared) {
    size_t ring = 4096;
    const auto wanted = static_cast<size_t>(
        environment_number("PRESERVE_RING_BYTES", 4096, int64_t{1} << 30, kDefaultRingBytes));
    while (ring < wanted) ring *= 2;
    g.ring_bytes = ring;
    g.ring_total = static_cast<size_t>(environment_number(
        "PRESERVE_RING_TOTAL", 4096, int64_t{1} << 40, static_cast<int64_t>(kDefaultRingTotal)));
    g.flush_ns = environment_number("PRESERVE_FLUSH_MS", 1, 3'600'000, kDefaultFlushMs) * 1'000'000;
    if (pthread_key_create(&g.exit_key, thread_exits) != 0) return false;
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    ::at_quick_exit(shut_down);
    prepared = true;
  }
  sem_init(&g.wake, 0, 0);
  return g.file.open(::getenv("PRESERVE_SPOOL_DIR"),
                     static_cast<uint32_t>(g.flush_ns / 1'000'000)) &&
         start_writer();
}

bool running() {
  const int run = g.run.load(std::memory_order_acquire);
  if (run == kRunning) return true;
  if (run != kIdle || !recording_wanted()) return false;
  pthread_mutex_lock(&g.start_mutex);
  if (g.run.load() == kIdle) g.run.store(start() ? kRunning : kFailed, std::memory_order_release);
  pthread_mutex_unlock(&g.start_mutex);
  return g.run.load() == kRunning;
}

// Claimed, as is a new one: the writer leaves it alone until attach_thread() has reset it.
ThreadLog* take_free_log() {
  for (ThreadLog* log = g.logs.load(std::memory_order_acquire); log; log = log->next) {
    uint32_t free = ThreadLog::kFree;
    if (log->state.load(std::memory_order_relaxed) != ThreadLog::kFree) continue;
    if (log->state.compare_exchange_strong(free, ThreadLog::kClaimed)) return log;
  }
  return nullptr;
}

ThreadLog* make_log() {
  if (g.ring_reserved.fetch_add(g.ring_bytes) + g.ring_bytes > g.ring_total) {
    g.ring_reserved.fetch_sub(g.ring_bytes);
    return nullptr;
  }
  const size_t own_bytes = (sizeof(ThreadLog) + 4095) & ~size_t{4095};
  auto* memory = static_cast<char*>(map_memory(own_bytes + g.ring_bytes));
  if (memory == nullptr) {
    g.ring_reserved.fetch_sub(g.ring_bytes);
    return nullptr;
  }
  auto* log = new (memory) ThreadLog;
  log->ring.attach(memory + own_bytes, g.ring_bytes);
  log->state.store(ThreadLog::kClaimed, std::memory_order_relaxed);
  log->next = g.logs.load(std::memory_order_relaxed);
  while (!g.logs.compare_exchange_weak(log->next, log, std::memory_order_release)) {
  }
  return log;
}

ThreadLog* attach_thread() {
  if (!running()) return nullptr;
  ThreadLog* log = take_free_log();
  if (log == nullptr) log = make_log();
  if (log == nullptr) return nullptr;
  log->ring.attach(log->ring.memory(), log->ring.size_bytes());
  log->tid = static_cast<uint32_t>(::gettid());
  log->ordinal = g.ordinal.fetch_add(1, std::memory_order_relaxed) + 1;
  log->open_pushes = log->skipped_pushes = 0;
  std::memset(log->skipped, 0, sizeof(log->skipped));
  for (int source = 0; source < kSourceCount; ++source) {
    log->received[source].store(0, std::memory_order_relaxed);
    log->dropped[source].store(0, std::memory_order_relaxed);
  }
  log->reported = 0;
  log->state.store(ThreadLog::kInUse, std::memory_order_release);
  pthread_setspecific(g.exit_key, log);
  tls_log = log;
  return log;
}

__attribute__((destructor)) void at_exit() {
  shut_down();
}

char* lay_out(char* out, const spool::RecordHeader& head, const spool::DefinitionBody& body,
              std::string_view text, std::string_view blob) {
  const size_t bytes = size_t{head.units} * 8;
  std::memset(out + bytes - 8, 0, 8);  // the padding behind text and blob
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + sizeof(head), &body, sizeof(body));
  char* tail = out + sizeof(head) + sizeof(body);
  if (!text.empty()) std::memcpy(tail, text.data(), text.size());
  if (!blob.empty()) std::memcpy(tail + spool::padded(text.size()), blob.data(), blob.size());
  return out + bytes;
}

void record_in_ring(const spool::RecordHeader& head, const spool::DefinitionBody& body,
                    std::string_view text, std::string_view blob) {
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return;
  char* out = begin_record(*log, kNvtx, size_t{head.units} * 8);
  if (out == nullptr) return;
  lay_out(out, head, body, text, blob);
  end_record(*log, size_t{head.units} * 8);
}

}  // namespace

int64_t environment_number(const char* name, int64_t low, int64_t high, int64_t otherwise) {
  const char* text = ::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const long long value = ::strtoll(text, &end, 10);
  return *end == '\0' && value >= low && value <= high ? value : otherwise;
}

void* map_memory(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool recording_wanted() {
  static const bool wanted = [] {
    const char* folder = ::getenv("PRESERVE_SPOOL_DIR");
    if (folder == nullptr || *folder != '/') return false;
    choose_clock();  // everybody who reads ticks has asked this first
    return true;
  }();
  return wanted;
}

ThreadLog* attach_this_thread(Source source) {
  ThreadLog* log = attach_thread();
  if (log == nullptr) {
    g.homeless_received[source].fetch_add(1, std::memory_order_relaxed);
    g.homeless_dropped[source].fetch_add(1, std::memory_order_relaxed);
  }
  return log;
}

void wake_writer() {
  if (g.wake_pending.load(std::memory_order_relaxed)) return;
  if (!g.wake_pending.exchange(true, std::memory_order_acq_rel)) sem_post(&g.wake);
}

void flush_now() {
  if (g.run.load(std::memory_order_acquire) != kRunning) return;
  const uint64_t ticket = g.flushes_asked.fetch_add(1) + 1;
  const int64_t give_up_ns = monotonic_ns() + kWaitForWriterNs;
  sem_post(&g.wake);
  while (g.flushes_done.load(std::memory_order_acquire) < ticket && monotonic_ns() < give_up_ns) {
    ::usleep(100);
  }
}

std::atomic<RangeWatch> range_watch{nullptr};

void set_background_source(BackgroundSource source) {
  g.background.store(source, std::memory_order_release);
}

void set_range_watch(RangeWatch watch) {
  range_watch.store(watch, std::memory_order_release);
}

std::string_view registered_string(uint64_t id) {
  const size_t end = g.definitions_end.load(std::memory_order_acquire);
  for (size_t at = 0; at < end;) {
    const auto* head = reinterpret_cast<const spool::RecordHeader*>(g.definitions + at);
    const auto* body = reinterpret_cast<const spool::DefinitionBody*>(head + 1);
    if (head->type == spool::RecordType::string && body->id == id) {
      return {reinterpret_cast<const char*>(body + 1), head->text_bytes};
    }
    at += size_t{head->units} * 8;
  }
  return {};
}

void define(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body,
            std::string_view text, std::string_view blob) {
  if (!recording_wanted()) return;
  text = text.substr(0, spool::kMaxTextBytes);
  if (blob.size() > spool::kMaxBlobBytes) blob = {};
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(body) + spool::padded(text.size()) +
                       spool::padded(blob.size());
  const spool::RecordHeader head = header(type, bytes, text.size(), domain);
  pthread_mutex_lock(&g.definitions_mutex);
  if (g.definitions == nullptr) {
    g.definitions = static_cast<char*>(map_memory(kDefinitionsBytes));
  }
  const size_t end = g.definitions_end.load(std::memory_order_relaxed);
  const bool fits = g.definitions != nullptr && end + bytes <= kDefinitionsBytes;
  if (fits) {
    lay_out(g.definitions + end, head, body, text, blob);
    g.definitions_end.store(end + bytes, std::memory_order_release);
  }
  pthread_mutex_unlock(&g.definitions_mutex);
  if (!fits) record_in_ring(head, body, text, blob);
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

void record_definition(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body) {
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(body);
  record_in_ring(header(type, bytes, 0, domain), body, {}, {});
}

}  // namespace preserve::collector
