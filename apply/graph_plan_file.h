// SPDX-License-Identifier: Apache-2.0
// The plan for CUDA graphs as the library inside a program reads it: which kernels the recorded
// step has, beside which of them something is prefetched, and which parameter of which kernel, or
// which NVTX memory region, says where that lies. One file, native byte order, arrays without gaps:
// GraphPlanHeader, uint64_t[] (names of the step's kernels in order of their start,
// apply/kernel_name.h), GraphWindow[], GraphSlice[], PlanTensor[], text bytes.
// PRESERVE_APPLY_GRAPH_PLAN names the file (an absolute path). Header-only, allocates nothing and
// throws nothing: used on both sides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "apply/plan_file.h"

namespace preserve::apply {

inline constexpr char kGraphPlanMagic[8] = {'P', 'R', 'S', 'V', 'G', 'R', 'P', '\n'};
inline constexpr uint32_t kGraphPlanVersion = 3;

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

// What the parameter of `consumer` at byte `argument` points to, or what the program calls
// `tensor`, from `offset_bytes` on.
struct GraphSlice {
  uint32_t consumer;  // position in the step
  uint32_t argument;  // kByName: the tensor counts
  uint32_t tensor;    // number; 0 where the argument counts
  uint32_t reserved;
  uint64_t offset_bytes, length_bytes;
};

inline constexpr uint32_t kByName = UINT32_MAX;

struct GraphPlanHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint32_t kernels, windows, slices, tensors, text_bytes;
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
  uint64_t budget_bytes;     // of the cache that the plan counts on
};
static_assert(sizeof(GraphWindow) == 16 && sizeof(GraphSlice) == 32 &&
              sizeof(GraphPlanHeader) == 88);

inline constexpr uint32_t kDefaultBlocks = 8, kMostBlocks = 4096;

class GraphPlanView : public PlanArrays<GraphPlanHeader, uint64_t, GraphWindow, GraphSlice> {
 public:
  // nullptr when all is well, else what is wrong. Nothing may be asked of a view that is not well.
  const char* open(std::span<const std::byte> file) {
    const char* wrong =
        PlanArrays::open(file, kGraphPlanMagic, kGraphPlanVersion, &GraphPlanHeader::kernels);
    return wrong != nullptr ? wrong : check();
  }

  std::span<const uint64_t> kernels() const { return steps_; }

 private:
  const char* check() const {
    if (steps_.empty()) return "its step has no kernels";
    if (header_.mode > Mode::compare || header_.fetch > GraphFetch::load || header_.kept > 1) {
      return "asks for what this version does not know";
    }
    if (header_.blocks == 0 || header_.blocks > kMostBlocks || header_.chunk_bytes < 16 ||
        header_.chunk_bytes > 1 << 24 || header_.chunk_bytes % 16 != 0 ||
        header_.deadline_pairs == 0 || header_.control_every == 0 ||
        header_.sample_capacity > 1 << 24 || header_.ranks == 0) {
      return "a number in its header is out of range";
    }
    if (!is_in_order(&GraphWindow::kernel)) {
      return "a window is not at a kernel, or out of order";
    }
    for (const GraphWindow& window : windows_) {
      if (window.slices == 0 || !has_slices(window)) return "a window's slices are missing";
    }
    for (const GraphSlice& slice : slices_) {
      const bool named = slice.argument == kByName;
      if (slice.consumer >= steps_.size() || (!named && slice.argument > UINT16_MAX) ||
          (named && slice.tensor >= tensors_.size()) || !is_range(slice)) {
        return "a slice is damaged";
      }
    }
    for (const PlanTensor& tensor : tensors_) {
      if (tensor.kind != TensorKind::region || !is_text(tensor.name)) return "a tensor is damaged";
    }
    return nullptr;
  }
};

}  // namespace preserve::apply
