// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/candidates.h"

#include <algorithm>

#include "common/as_index.h"

namespace preserve {

namespace {

struct Range {
  int64_t begin = 0, end = 0;
};

struct Use {
  int32_t ordinal = 0;
  Range range;
};

bool overlap(const Range& a, const Range& b) {
  return a.begin < b.end && b.begin < a.end;
}

// Each part of `range` without `holes` (any order, may overlap), ascending.
template <typename Use>
void each_part_without(std::vector<Range>& holes, Range range, const Use& use) {
  std::sort(holes.begin(), holes.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (const Range& hole : holes) {
    if (!overlap(range, hole)) continue;
    if (hole.begin > range.begin) use(Range{range.begin, hole.begin});
    range.begin = std::max(range.begin, hole.end);
    if (range.begin >= range.end) return;
  }
  use(range);
}

class Candidates {
 public:
  Candidates(const FoldedStep& step, const std::vector<int64_t>& footprint_bytes,
             int64_t cache_bytes, ProblemNotes& notes)
      : step_(step),
        cache_bytes_(cache_bytes),
        notes_(notes),
        uses_(step.tensors.size()),
        written_(step.tensors.size()),
        passed_(step.ops.size() + 1, 0) {
    for (size_t i = 0; i < step.ops.size(); ++i) passed_[i + 1] = passed_[i] + footprint_bytes[i];
    for (const StepOp& op : step.ops) {
      for (const StepAccess& access : op.accesses) {
        const auto tensor = as_index(access.tensor);
        const Range range = clip(access);
        if (range.begin >= range.end) continue;
        if (access.mode == AccessMode::write) written_[tensor].push_back(range);
        uses_[tensor].push_back({op.ordinal, range});
      }
    }
  }

  std::vector<Slice> of(const StepOp& op) {
    std::vector<Slice> slices;
    if (op.kind == OpKind::collective || op.kind == OpKind::p2p) return slices;
    taken_.clear();
    for (const StepAccess& access : op.accesses) {
      if (access.mode != AccessMode::read) continue;
      const Range range = clip(access);
      if (range.end - range.begin < access.bytes) ++notes_.clipped_accesses;
      if (range.begin >= range.end || !may_travel(access, range)) continue;
      holes_ = written_[as_index(access.tensor)];
      for (const auto& [tensor, other] : taken_) {
        if (tensor == access.tensor) holes_.push_back(other);
      }
      taken_.emplace_back(access.tensor, range);
      each_part_without(holes_, range,
                        [&](const Range& part) { add(access, part, op.ordinal, slices); });
    }
    return slices;
  }

 private:
  Range clip(const StepAccess& access) const {
    const int64_t size = step_.tensors[as_index(access.tensor)].bytes;
    const int64_t begin = std::min(access.offset_bytes, size);
    return {begin, begin + std::min(access.bytes, size - begin)};
  }

  bool may_travel(const StepAccess& access, const Range& range) {
    const auto tensor = as_index(access.tensor);
    switch (step_.tensors[tensor].role) {
      case TensorRole::weight:
        if (written_[tensor].empty()) return true;
        notes_.written_bytes += range.end - range.begin;
        return false;
      case TensorRole::kv:
        return true;  // all but what the step writes
      case TensorRole::activation:
      case TensorRole::comm:
        return false;
      case TensorRole::unknown:
        notes_.unnamed_bytes += access.bytes;
        return false;
    }
    return false;
  }

  void add(const StepAccess& access, const Range& part, int32_t ordinal,
           std::vector<Slice>& slices) {
    const int64_t blocks = (part.end - part.begin) / kBlockBytes;
    if (blocks == 0) return;
    if (still_cached(access.tensor, part, ordinal)) {
      notes_.still_cached_bytes += part.end - part.begin;
      return;
    }
    if (access.confidence < 1) notes_.low_confidence_bytes += blocks * kBlockBytes;
    slices.push_back({access.tensor, part.begin, blocks});
  }

  // Was any byte of `part` touched so recently that it is still cached? Walks back over the
  // tensor's uses, around the ring, until more bytes than the cache holds have streamed by.
  bool still_cached(int32_t tensor, const Range& part, int32_t ordinal) const {
    const std::vector<Use>& uses = uses_[as_index(tensor)];
    const auto here =
        std::lower_bound(uses.begin(), uses.end(), ordinal,
                         [](const Use& use, int32_t value) { return use.ordinal < value; });
    const auto first = as_index(here - uses.begin());
    for (size_t back = 1; back <= uses.size(); ++back) {
      const bool wrapped = back > first;
      const Use& use = uses[wrapped ? first + uses.size() - back : first - back];
      // Bytes streamed after that use, up to and including this one.
      const int64_t since = passed_[as_index(ordinal) + 1] - passed_[as_index(use.ordinal) + 1] +
                            (wrapped ? passed_.back() : 0);
      if (since > cache_bytes_) return false;
      if (overlap(use.range, part)) return true;
    }
    return false;
  }

  const FoldedStep& step_;
  int64_t cache_bytes_;
  ProblemNotes& notes_;
  std::vector<std::vector<Use>> uses_;            // per tensor, by ordinal
  std::vector<std::vector<Range>> written_;       // per tensor
  std::vector<int64_t> passed_;                   // bytes streamed before each operator
  std::vector<std::pair<int32_t, Range>> taken_;  // of one operator: a byte counts once per use
  std::vector<Range> holes_;                      // of one read
};

}  // namespace

std::vector<std::vector<Slice>> find_candidates(const FoldedStep& step,
                                                const std::vector<int64_t>& footprint_bytes,
                                                int64_t cache_bytes, ProblemNotes& notes) {
  Candidates candidates(step, footprint_bytes, cache_bytes, notes);
  std::vector<std::vector<Slice>> slices;
  slices.reserve(step.ops.size());
  for (const StepOp& op : step.ops) slices.push_back(candidates.of(op));
  return slices;
}

}  // namespace preserve
