// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/fetch_window.h"

#include <exception>
#include <future>
#include <system_error>

#include "common/error.h"
#include "replay/cpu/host_cores.h"
#include "replay/ranks/spin.h"

namespace preserve {

WindowFetcher::WindowFetcher(FetchFunction fetch, int64_t chunk_bytes,
                             std::optional<int> spare_cpu) {
  use(fetch, chunk_bytes);
  if (spare_cpu) start_helper(*spare_cpu);
}

void WindowFetcher::use(FetchFunction fetch, int64_t chunk_bytes) {
  if (chunk_bytes <= 0) throw internal_error("fetch chunk of {} bytes", chunk_bytes);
  fetch_ = fetch;
  chunk_bytes_ = chunk_bytes;
}

// A new thread has its creator's affinity and scheduling policy, so it begins on the rank's own
// core. The rank sleeps until it has moved away: if it went on and spun for the helper there, a
// real-time policy would never let the helper run.
void WindowFetcher::start_helper(int cpu) {
  std::promise<void> pinned;
  std::future<void> ready = pinned.get_future();
  try {
    helper_ = std::thread([this, cpu, pinned = std::move(pinned)]() mutable {
      try {
        pin_this_thread(cpu);
      } catch (const Error&) {
        pinned.set_exception(std::current_exception());
        return;
      }
      pinned.set_value();
      help();
    });
  } catch (const std::system_error& error) {
    throw input_error("cannot start a thread for prefetching: {}", error.what());
  }
  try {
    ready.get();
  } catch (const Error&) {
    helper_.join();
    throw;
  }
}

WindowFetcher::~WindowFetcher() {
  quit_.store(true);
  if (helper_.joinable()) helper_.join();
}

void WindowFetcher::begin(std::span<const FetchSlice> slices) {
  cursor_ = FetchCursor(slices);
  if (helper_.joinable()) posted_.fetch_add(1, std::memory_order_release);
}

bool WindowFetcher::step() {
  return !helper_.joinable() && cursor_.step(fetch_, chunk_bytes_);
}

void WindowFetcher::wait() {
  while (step()) {
  }
  if (helper_.joinable()) await_helper(posted_.load(std::memory_order_relaxed));
}

int64_t WindowFetcher::end() {
  if (helper_.joinable()) {
    const uint64_t number = posted_.load(std::memory_order_relaxed);
    stopped_.store(number, std::memory_order_relaxed);
    await_helper(number);  // at most one chunk
  }
  return cursor_.fetched_bytes();
}

void WindowFetcher::await_helper(uint64_t number) const {
  SpinWait spin;
  while (finished_.load(std::memory_order_acquire) != number) spin.again();
}

void WindowFetcher::help() {
  uint64_t seen = 0;
  SpinWait spin;  // a sleeping helper would miss windows of microseconds
  while (!quit_.load(std::memory_order_relaxed)) {
    const uint64_t number = posted_.load(std::memory_order_acquire);
    if (number == seen) {
      spin.again();
      continue;
    }
    seen = number;
    while (stopped_.load(std::memory_order_relaxed) != number &&
           cursor_.step(fetch_, chunk_bytes_)) {
    }
    finished_.store(number, std::memory_order_release);
  }
}

std::string_view to_string(WindowVia via) {
  return via == WindowVia::progress ? "progress" : "convert";
}

namespace {

// What the progress engine works on; it passes no argument. Only the thread that waits in the
// collective is in the engine.
WindowFetcher* open_window = nullptr;

int fetch_in_turn() {
  if (open_window != nullptr) open_window->step();
  return 0;
}

// The non-blocking call; returns whether slices may be left.
bool run_converted(RankCollective& collective, WindowFetcher& fetcher,
                   std::span<const FetchSlice> slices, FetchBegin begin) {
  collective.start();
  if (begin == FetchBegin::after_start) fetcher.begin(slices);
  bool more = true;
  SpinWait spin;
  while (true) {
    if (more) more = fetcher.step();
    if (collective.test()) return more;
    if (!more) spin.again();
  }
}

}  // namespace

ProgressTurns::ProgressTurns(const ProgressEngine& engine) : engine_(engine) {
  if (const int code = engine_.add(fetch_in_turn); code != 0) {
    throw input_error("the MPI library's progress engine takes no function (code {})", code);
  }
}

ProgressTurns::~ProgressTurns() {
  engine_.remove(fetch_in_turn);
}

int64_t run_window(RankCollective& collective, WindowFetcher& fetcher,
                   std::span<const FetchSlice> slices, int64_t link_latency_ns, WindowVia via,
                   FetchBegin begin) {
  bool more = true;
  if (via == WindowVia::progress) {
    fetcher.begin(slices);
    open_window = &fetcher;
    collective.run();
    open_window = nullptr;
  } else {
    if (begin == FetchBegin::before_start) fetcher.begin(slices);
    more = run_converted(collective, fetcher, slices, begin);
  }
  if (link_latency_ns > 0) {
    const int64_t end_ns = monotonic_ns() + link_latency_ns;
    while (monotonic_ns() < end_ns) {
      if (more) more = fetcher.step();
    }
  }
  return fetcher.end();
}

int64_t run_idle_window(WindowFetcher& fetcher, std::span<const FetchSlice> slices,
                        int64_t end_ns) {
  fetcher.begin(slices);
  bool more = true;
  while (monotonic_ns() < end_ns) {
    if (more) more = fetcher.step();
  }
  return fetcher.end();
}

}  // namespace preserve
