// SPDX-License-Identifier: Apache-2.0
// What happens between the start and the end of a collective that carries prefetches: the rank's
// own core (or a helper on a spare one) works off a list of slices in chunks and lets the
// collective go on after each. When the collective is done the rest of the list is dropped, never
// finished late.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <thread>

#include "common/fetch_lines.h"
#include "common/no_copy.h"
#include "replay/cpu/progress_engine.h"
#include "replay/ranks/group.h"

namespace preserve {

struct FetchSlice {
  const std::byte* begin = nullptr;
  int64_t bytes = 0;
};

// A list of slices that is fetched piece by piece, by one thread at a time.
class FetchCursor {
 public:
  FetchCursor() = default;
  // At the first byte. `slices` must stay valid while it is used.
  explicit FetchCursor(std::span<const FetchSlice> slices) noexcept : slices_(slices) {}

  // Fetches the next piece, at most `chunk_bytes` (positive) of one slice; false when nothing is
  // left.
  bool step(FetchFunction fetch, int64_t chunk_bytes) noexcept {
    for (; slice_ < slices_.size(); ++slice_, offset_bytes_ = 0) {
      const FetchSlice& slice = slices_[slice_];
      const int64_t bytes = std::min(chunk_bytes, slice.bytes - offset_bytes_);
      if (bytes <= 0) continue;
      fetch(slice.begin + offset_bytes_, bytes);
      offset_bytes_ += bytes;
      fetched_bytes_ += bytes;
      return true;
    }
    return false;
  }
  int64_t fetched_bytes() const noexcept { return fetched_bytes_; }

 private:
  std::span<const FetchSlice> slices_;
  size_t slice_ = 0;
  int64_t offset_bytes_ = 0, fetched_bytes_ = 0;
};

class WindowFetcher : NoCopy {
 public:
  // With `spare_cpu` a helper thread pinned there fetches; else the calling thread does, in step().
  // Returns once the helper is there. input_error when it cannot be started or pinned.
  WindowFetcher(FetchFunction fetch, int64_t chunk_bytes, std::optional<int> spare_cpu);
  ~WindowFetcher();

  // Another way of fetching from the next begin() on.
  void use(FetchFunction fetch, int64_t chunk_bytes);
  // `slices` must stay valid until end().
  void begin(std::span<const FetchSlice> slices);
  // Fetches one chunk here; false when there is nothing (more) to do on this core.
  bool step();
  // Fetches, or lets the helper fetch, all of it.
  void wait();
  // Stops; how many bytes were fetched since begin().
  int64_t end();

 private:
  void start_helper(int cpu);
  void help();
  void await_helper(uint64_t number) const;

  FetchFunction fetch_ = nullptr;
  int64_t chunk_bytes_ = 0;
  FetchCursor cursor_;
  // Hand-over to the helper: a list is posted, perhaps stopped early, and finished, by number.
  std::atomic<uint64_t> posted_{0}, stopped_{0}, finished_{0};
  std::atomic<bool> quit_{false};
  std::thread helper_;
};

// Whether a helper is given its slices before the collective is started or after; on the rank's own
// core starting comes first, since fetching before would only delay it. For windows via `convert`:
// a blocking call leaves no moment after its start, so via `progress` a helper has them before.
enum class FetchBegin { after_start, before_start };

// How the rank's own core comes to fetch while it is in a collective.
//   progress  in the unchanged blocking call, one chunk per turn of the library's progress engine
//   convert   the non-blocking call instead, and a loop of fetching a chunk and testing
enum class WindowVia { progress, convert };
std::string_view to_string(WindowVia via);

// While it exists the progress engine fetches for windows via `progress`. One at a time.
class ProgressTurns : NoCopy {
 public:
  // input_error when the engine refuses.
  explicit ProgressTurns(const ProgressEngine& engine);
  ~ProgressTurns();

 private:
  ProgressEngine engine_;
};

// Runs the collective, fetches until it is complete and `link_latency_ns` have passed since then.
// Returns the bytes fetched. Via `progress` there must be ProgressTurns, unless a helper fetches.
int64_t run_window(RankCollective& collective, WindowFetcher& fetcher,
                   std::span<const FetchSlice> slices, int64_t link_latency_ns,
                   WindowVia via = WindowVia::convert, FetchBegin begin = FetchBegin::after_start);

// Fetches while an idle stretch of the step lasts.
int64_t run_idle_window(WindowFetcher& fetcher, std::span<const FetchSlice> slices, int64_t end_ns);

}  // namespace preserve
