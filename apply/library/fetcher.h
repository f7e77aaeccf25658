// SPDX-License-Identifier: Apache-2.0
// One window: the slices of a collective, worked off in chunks by the thread that waits in it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "apply/library/tensors.h"
#include "apply/plan_file.h"
#include "common/fetch_lines.h"

namespace preserve::apply {

// Method counts the ways of fetching in the order of kFetchMethods.
constexpr bool names_are_methods() {
  for (size_t i = 0; i < std::size(kMethodNames); ++i) {
    if (kMethodNames[i] != kFetchMethods[i].name) return false;
  }
  return std::size(kMethodNames) == std::size(kFetchMethods);
}
static_assert(names_are_methods());

using Clock = int64_t (*)();  // monotonic, ns

class Fetcher {
 public:
  Fetcher(const PlanView& plan, Tensors& tensors, Clock clock)
      : Fetcher(plan, tensors, clock, plan.header().method) {}
  Fetcher(const PlanView& plan, Tensors& tensors, Clock clock, Method method)
      : fetch_(kFetchMethods[static_cast<size_t>(method)].fetch),
        tensors_(tensors),
        clock_(clock),
        most_bytes_(plan.header().chunk_bytes),
        turn_ns_(plan.header().turn_ns),
        idle_turns_(plan.header().idle_turns),
        chunk_bytes_(plan.header().chunk_bytes) {}

  struct Tally {
    uint64_t fetched_bytes = 0, dropped_bytes = 0, turns = 0;
    double fetch_ns = 0;
  };

  // `slices` must stay until close().
  void open(std::span<const PlanSlice> slices) {
    slices_ = slices;
    offset_bytes_ = 0;
    tally_ = {};
  }
  // The MPI library has looked at its messages once more. A rank that comes last finds its message
  // in the first turns, and would keep the others waiting.
  void turn() {
    if (++tally_.turns > idle_turns_) fetch();
  }
  bool has_more() const { return !slices_.empty(); }
  // One chunk; its bytes.
  uint64_t fetch() {
    if (slices_.empty()) return 0;
    const int64_t begin_ns = clock_();
    const uint64_t bytes = fetch_chunk();
    const auto took_ns = static_cast<uint64_t>(clock_() - begin_ns);
    tally_.fetched_bytes += bytes;
    tally_.fetch_ns += static_cast<double>(took_ns);
    if (took_ns > turn_ns_) {
      chunk_bytes_ = std::max(kLeastBytes, chunk_bytes_ / 2);
    } else if (took_ns < turn_ns_ / 2 && bytes == chunk_bytes_) {
      chunk_bytes_ = std::min(most_bytes_, chunk_bytes_ * 2);
    }
    return bytes;
  }
  // What is left is dropped, never caught up.
  Tally close() {
    for (const PlanSlice& slice : slices_) tally_.dropped_bytes += slice.length_bytes;
    tally_.dropped_bytes -= offset_bytes_;
    slices_ = {};
    offset_bytes_ = 0;
    return tally_;
  }

 private:
  static constexpr uint64_t kLeastBytes = 512;

  uint64_t fetch_chunk() {
    const Tensors::Reading reading(tensors_);
    while (!slices_.empty()) {
      const PlanSlice& slice = slices_.front();
      const uint64_t left = slice.length_bytes - offset_bytes_;
      const Tensors::Place place = tensors_.at(slice.tensor, slice.offset_bytes + offset_bytes_,
                                               std::min(left, chunk_bytes_));
      if (place.bytes > 0) {
        fetch_(place.begin, static_cast<int64_t>(place.bytes));
        offset_bytes_ += place.bytes;
      } else {
        tally_.dropped_bytes += left;
        offset_bytes_ = slice.length_bytes;
      }
      if (offset_bytes_ == slice.length_bytes) {
        slices_ = slices_.subspan(1);
        offset_bytes_ = 0;
      }
      if (place.bytes > 0) return place.bytes;
    }
    return 0;
  }

  const FetchFunction fetch_;
  Tensors& tensors_;
  const Clock clock_;
  const uint64_t most_bytes_, turn_ns_, idle_turns_;
  uint64_t chunk_bytes_;
  std::span<const PlanSlice> slices_;  // the first has `offset_bytes_` behind it
  uint64_t offset_bytes_ = 0;
  Tally tally_;
};

}  // namespace preserve::apply
