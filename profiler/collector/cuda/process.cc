// SPDX-License-Identifier: Apache-2.0
// The recording of CUDA in this process, from the moment libcuda starts: the session, one thread
// that flushes it and watches for signals, and the ways a process may end:
//
//   exit             atexit handler: everything is flushed
//   SIGTERM, ...     if the program had no handler: byte into a pipe, our thread flushes (at
//                    most 2 s), then the signal takes its default course. Programs with a handler
//                    reach atexit.
//   SIGKILL, _exit   what the last flush period held is lost
//   fork             the child has no session; its own cuInit starts one
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <new>

#include "hooks/c_library.h"
#include "hooks/listener.h"
#include "profiler/collector/cuda/session.h"
#include "profiler/collector/foreign_process.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/spool_file.h"

namespace preserve::cuda {
namespace {

using collector::environment_number;

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGQUIT};
constexpr int kLookMs = 200;  // whether the program has ended
constexpr int64_t kStopNs = 2'000'000'000;

CuptiApi api;
// Constructed in place when CUDA starts, never destroyed: CUPTI may call until the very end.
alignas(Session) char session_memory[sizeof(Session)];
std::atomic<Session*> session{nullptr};
int signal_pipe[2] = {-1, -1};
pthread_mutex_t stop_mutex = PTHREAD_MUTEX_INITIALIZER;

void print_note(const char* what, const char* text) {
  char line[640];
  const int length = ::snprintf(line, sizeof(line), "preserve: %s not recorded: %s\n", what, text);
  if (length > 0) {
    const auto bytes =
        static_cast<size_t>(length) < sizeof(line) ? static_cast<size_t>(length) : sizeof(line) - 1;
    (void)!::write(STDERR_FILENO, line, bytes);
  }
}

void print_no_counters(const char* why) {
  print_note("counters are", why);
}

// Set by preserve-profile; wrong values cannot come from there and count as absent.
SessionOptions options_from_environment() {
  SessionOptions options;
  options.parameters = environment_number("PRESERVE_CUDA_PARAMS", 0, 1, 1) == 1;
  options.whole_graphs = environment_number("PRESERVE_CUDA_WHOLE_GRAPHS", 0, 1, 0) == 1;
  options.counters = static_cast<uint32_t>(environment_number("PRESERVE_CUDA_COUNTERS", 0, 3, 0));
  options.complain = print_no_counters;
  options.hardware_trace = environment_number("PRESERVE_CUDA_HW_TRACE", 0, 1, 0) == 1;
  options.buffers = static_cast<size_t>(environment_number("PRESERVE_CUDA_BUFFERS", 1, 256, 64));
  options.buffer_bytes = static_cast<size_t>(environment_number(
      "PRESERVE_CUDA_BUFFER_BYTES", 1 << 16, int64_t{1} << 30, int64_t{2} << 20));
  options.flush_ms =
      static_cast<uint32_t>(environment_number("PRESERVE_FLUSH_MS", 1, 3'600'000, 200));
  if (options.flush_ms < 20) options.flush_ms = 20;  // a flush of CUPTI takes its locks
  if (const char* range = ::getenv("PRESERVE_CUDA_RANGE")) options.range.parse(range);
  return options;
}

void stop_session() {
  pthread_mutex_lock(&stop_mutex);
  if (Session* running = session.load(std::memory_order_acquire)) running->stop();
  pthread_mutex_unlock(&stop_mutex);
}

// ---------------------------------------------------------------- signals

void on_signal(int number) {
  const auto byte = static_cast<unsigned char>(number);
  (void)!::write(signal_pipe[1], &byte, 1);
}

void take_signals() {
  for (const int number : kSignals) {
    struct sigaction there {};
    if (::sigaction(number, nullptr, &there) != 0 || (there.sa_flags & SA_SIGINFO) != 0 ||
        there.sa_handler != SIG_DFL) {
      continue;
    }
    struct sigaction ours {};
    ours.sa_handler = on_signal;
    ours.sa_flags = SA_RESTART;
    ::sigaction(number, &ours, nullptr);
  }
}

void give_signals_back() {
  for (const int number : kSignals) {
    struct sigaction there {};
    if (::sigaction(number, nullptr, &there) == 0 && there.sa_handler == on_signal) {
      there.sa_handler = SIG_DFL;
      ::sigaction(number, &there, nullptr);
    }
  }
}

void* stop_for_signal(void*) {
  stop_session();
  return nullptr;
}

// The program did not want this signal, so it ends by it, after the flush or without.
void end_by_signal(int number) {
  pthread_t stopper;
  if (pthread_create(&stopper, nullptr, stop_for_signal, nullptr) == 0) {
    timespec until{};
    ::clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += kStopNs / 1'000'000'000;
    (void)pthread_timedjoin_np(stopper, nullptr, &until);
  }
  collector::flush_now();
  struct sigaction fallback {};
  fallback.sa_handler = SIG_DFL;
  ::sigaction(number, &fallback, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  ::kill(::getpid(), number);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
}

// ---------------------------------------------------------------- our thread

void* watch(void*) {
  while (true) {
    Session* running = session.load(std::memory_order_acquire);
    if (running == nullptr) return nullptr;
    if (collector::program_has_ended(true)) {
      give_signals_back();  // without /proc the program may live on, and nobody reads the pipe
      return collector::before_end();
    }
    pollfd waiting{signal_pipe[0], POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(running->next_tick_ms()));
    unsigned char byte = 0;
    if (ready > 0 && ::read(signal_pipe[0], &byte, 1) == 1) end_by_signal(byte);
    const State state = running->state();
    if (state == State::drained || state == State::degraded) {
      // Nothing left to flush, but a signal still has to be passed on.
      if (::poll(&waiting, 1, kLookMs) > 0 && ::read(signal_pipe[0], &byte, 1) == 1)
        end_by_signal(byte);
      continue;
    }
    running->tick();
  }
}

// ---------------------------------------------------------------- process

void write_buffers(collector::SpoolFile& file) {
  if (Session* running = session.load(std::memory_order_acquire)) running->write(file);
}

void range_seen(const collector::RangeEvent& event) {
  if (Session* running = session.load(std::memory_order_acquire)) running->on_range(event);
}

// CUDA does not survive a fork of a process that used it; a child that starts CUDA itself is new.
void after_fork_in_child() {
  Session* parents = session.exchange(nullptr);
  if (parents == nullptr) return;
  Session::forget();
  collector::set_background_source(nullptr);
  collector::set_range_watch(nullptr);
  for (int& end : signal_pipe) {
    if (end >= 0) ::close(end);
    end = -1;
  }
  give_signals_back();
  pthread_mutex_init(&stop_mutex, nullptr);
}

void start_session() {
  if (!collector::recording_wanted() || environment_number("PRESERVE_CUDA", 0, 1, 1) == 0) return;
  if (session.load() != nullptr) return;
  char why[256];
  if (!api.load(why, sizeof(why))) {
    print_note("GPU activity is", why);
    return;
  }
  auto* fresh = new (session_memory) Session(api, options_from_environment());
  if (!fresh->start()) {
    print_note("GPU activity is", fresh->reason());
    return;
  }
  collector::set_background_source(write_buffers);
  session.store(fresh, std::memory_order_release);
  if (fresh->options().range.watches_ranges()) collector::set_range_watch(range_seen);
  static bool hooked = false;  // survives a fork
  if (!hooked) {
    // Only now: what was registered last runs first, and libcupti registers the end of its own
    // objects as it is loaded, the recorder its end as it starts. Both must still live for the last
    // flush.
    (void)hooks::at_fork(nullptr, nullptr, after_fork_in_child);
    ::atexit(stop_session);
    hooks::at_quick_exit<stop_session>();
    hooked = true;
  }
  if (::pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) == 0 &&
      collector::start_thread("preserve-cuda", watch)) {
    take_signals();
  }
}

}  // namespace
}  // namespace preserve::cuda

void preserve::listener::cuda_began() {
  preserve::cuda::start_session();
}
