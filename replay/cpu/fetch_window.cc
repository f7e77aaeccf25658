// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/fetch_window.h"

#include <algorithm>
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

bool WindowFetcher::fetch_chunk(Cursor& cursor) const {
  while (cursor.slice < cursor.slices.size()) {
    const FetchSlice& slice = cursor.slices[cursor.slice];
    const int64_t bytes = std::min(chunk_bytes_, slice.bytes - cursor.offset_bytes);
    if (bytes > 0) {
      fetch_(slice.begin + cursor.offset_bytes, bytes);
      cursor.offset_bytes += bytes;
      cursor.fetched_bytes += bytes;
      return true;
    }
    ++cursor.slice;
    cursor.offset_bytes = 0;
  }
  return false;
}

void WindowFetcher::begin(std::span<const FetchSlice> slices) {
  cursor_ = {slices};
  if (helper_.joinable()) posted_.fetch_add(1, std::memory_order_release);
}

bool WindowFetcher::step() {
  return !helper_.joinable() && fetch_chunk(cursor_);
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
  return cursor_.fetched_bytes;
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
    while (stopped_.load(std::memory_order_relaxed) != number && fetch_chunk(cursor_)) {
    }
    finished_.store(number, std::memory_order_release);
  }
}

int64_t run_window(RankCollective& collective, WindowFetcher& fetcher,
                   std::span<const FetchSlice> slices, int64_t link_latency_ns, FetchBegin begin) {
  if (begin == FetchBegin::before_start) fetcher.begin(slices);
  collective.start();
  if (begin == FetchBegin::after_start) fetcher.begin(slices);
  bool more = true;
  SpinWait spin;
  while (true) {
    if (more) more = fetcher.step();
    if (collective.test()) break;
    if (!more) spin.again();
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
