// SPDX-License-Identifier: Apache-2.0
// The plan for CUDA graphs as the library inside a program reads it: which kernels the recorded
// step has, beside which of them something is prefetched, and which parameter of which kernel says
// where that lies. One file, native byte order, arrays without gaps: GraphPlanHeader, uint64_t[]
// (names of the step's kernels in order of their start, apply/kernel_name.h), GraphWindow[],
// GraphSlice[], text bytes. PRESERVE_APPLY_GRAPH_PLAN names the file (an absolute path).
// Header-only, allocates nothing and throws nothing: used on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "apply/plan_file.h"

namespace preserve::apply {

inline constexpr char kGraphPlanMagic[8] = {'P', 'R', 'S', 'V', 'G', 'R', 'P', '\n'};
inline constexpr uint32_t kGraphPlanVersion = 1;

// How bytes are requested, as schedule.json's method names it. A ..._kept kernel asks the cache to
// keep them longest (eviction "last").
enum class GraphFetch : uint8_t { bulk_l2, prefetch_l2, load };
inline constexpr std::string_view kGraphFetchNames[] = {"bulk_l2", "prefetch_l2", "load"};

// The kernels beside which something is fetched, by ascending position.
struct GraphWindow {
  uint32_t kernel;  // position in the step
  uint32_t first_slice, slices;
  uint32_t reserved;
};

// What the parameter of `consumer` at byte `argument` points to, from `offset_bytes` on.
struct GraphSlice {
  uint32_t consumer;  // position in the step
  uint32_t argument;
  uint64_t offset_bytes, length_bytes;
};

struct GraphPlanHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint32_t kernels, windows, slices, text_bytes;
  Mode mode;
  GraphFetch fetch;
  uint8_t kept;
  uint8_t reserved0;
  uint32_t blocks;           // of a prefetch kernel
  uint32_t chunk_bytes;      // per request of bulk_l2
  uint32_t deadline_pairs;   // guard: AMBG after so many pairs with the plan turns it off
  uint32_t control_every;    // guard: after FAST, one pair in so many still compares
  uint32_t sample_capacity;  // steps whose times are kept
  uint32_t ranks;            // of the recording; for information alone
  PlanText folder;           // absolute; where outcomes go
  uint8_t digest[32];        // of the schedule.json
  uint32_t reserved1;
};
static_assert(sizeof(GraphWindow) == 16 && sizeof(GraphSlice) == 24 &&
              sizeof(GraphPlanHeader) == 112);

inline constexpr uint32_t kDefaultBlocks = 8, kMostBlocks = 4096;

// A plan in memory that somebody else keeps.
class GraphPlanView {
 public:
  // nullptr when all is well, else what is wrong. Nothing may be asked of a view that is not well.
  const char* open(std::span<const std::byte> file) {
    const char* wrong = take_header(file, kGraphPlanMagic, kGraphPlanVersion, header_);
    if (wrong != nullptr) return wrong;
    size_t at = sizeof(header_);
    if (!take_array(file, at, header_.kernels, kernels_) ||
        !take_array(file, at, header_.windows, windows_) ||
        !take_array(file, at, header_.slices, slices_) ||
        !take_array(file, at, header_.text_bytes, text_)) {
      return "its arrays do not fit into it";
    }
    if (at != file.size() || header_.file_bytes != file.size()) {
      return "cut, or longer than it says";
    }
    return check();
  }

  const GraphPlanHeader& header() const { return header_; }
  std::span<const uint64_t> kernels() const { return kernels_; }
  std::span<const GraphWindow> windows() const { return windows_; }
  std::span<const GraphSlice> slices(const GraphWindow& window) const {
    return slices_.subspan(window.first_slice, window.slices);
  }
  std::string_view folder() const {
    return {text_.data() + header_.folder.offset, header_.folder.bytes};
  }

 private:
  const char* check() const {
    if (kernels_.empty()) return "its step has no kernels";
    if (header_.mode > Mode::compare || header_.fetch > GraphFetch::load || header_.kept > 1) {
      return "asks for what this version does not know";
    }
    if (header_.blocks == 0 || header_.blocks > kMostBlocks || header_.chunk_bytes < 16 ||
        header_.chunk_bytes > 1 << 24 || header_.chunk_bytes % 16 != 0 ||
        header_.deadline_pairs == 0 || header_.control_every == 0 ||
        header_.sample_capacity > 1 << 24 || header_.ranks == 0) {
      return "a number in its header is out of range";
    }
    if (header_.folder.offset > text_.size() ||
        header_.folder.bytes > text_.size() - header_.folder.offset || folder().empty() ||
        folder()[0] != '/') {
      return "its folder is not an absolute path";
    }
    int64_t last = -1;
    for (const GraphWindow& window : windows_) {
      if (window.kernel <= last || window.kernel >= kernels_.size()) {
        return "a window is not at a kernel, or out of order";
      }
      last = window.kernel;
      if (window.slices == 0 || !has_slices(window, slices_)) {
        return "a window's slices are missing";
      }
    }
    for (const GraphSlice& slice : slices_) {
      if (slice.consumer >= kernels_.size() || slice.argument > UINT16_MAX ||
          slice.length_bytes == 0 || slice.offset_bytes > UINT64_MAX - slice.length_bytes) {
        return "a slice is damaged";
      }
    }
    return nullptr;
  }

  GraphPlanHeader header_{};
  std::span<const uint64_t> kernels_;
  std::span<const GraphWindow> windows_;
  std::span<const GraphSlice> slices_;
  std::span<const char> text_;
};

}  // namespace preserve::apply
