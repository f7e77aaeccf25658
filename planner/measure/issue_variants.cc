// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/issue_variants.h"

#include <algorithm>

#include "planner/problem/problem.h"

namespace preserve {
namespace {

// The range that preserve-calibrate tries on a GPU.
constexpr int64_t kMostBlocks = 32;
constexpr int64_t kChunkStep = 16;  // requests are multiples of it
constexpr int64_t kSmallestChunkBytes = 128;
constexpr int64_t kLargestChunkBytes = 64 << 10;
constexpr int64_t kChunkFactor = 4;

class Variants {
 public:
  explicit Variants(const IssueMethod& base) : base_(base) {}

  void add(const IssueMethod& method, std::string why) {
    const auto same = [&](const IssueVariant& other) { return other.method == method; };
    if (method == base_ || std::ranges::any_of(out_, same)) return;
    out_.push_back({method, std::move(why)});
  }

  void add_methods(const DeviceModel& device) {
    for (const PrefetchMethod& method : device.methods) {
      if (out_.size() == kMostOtherMethods) return;
      if (method.name == base_.name && method.placement == base_.placement) continue;
      add(issue_method(method),
          "another method of the device file: which one is best depends on "
          "the concurrent traffic");
    }
  }

  void add_blocks(int64_t multiprocessors) {
    if (base_.ctas == 0) return;  // the executor's default: nothing to halve
    IssueMethod method = base_;
    method.ctas = std::max<int64_t>(1, base_.ctas / 2);
    add(method, "half the thread blocks: leaves more to the collective");
    method.ctas = base_.ctas * 2;
    if (method.ctas > kMostBlocks) return;
    if (multiprocessors > 0 && method.ctas > multiprocessors) return;  // no executor accepts more
    add(method, "twice the thread blocks: more requests in flight");
  }

  void add_chunks() {
    if (base_.chunk_bytes == 0) return;
    IssueMethod method = base_;
    method.chunk_bytes =
        std::max(kSmallestChunkBytes, base_.chunk_bytes / kChunkFactor / kChunkStep * kChunkStep);
    add(method, "smaller requests: spread over more of the memory's channels");
    method.chunk_bytes = std::min(kLargestChunkBytes, base_.chunk_bytes * kChunkFactor);
    add(method, "larger requests: fewer instructions for the same bytes");
  }

  void add_eviction() {
    IssueMethod method = base_;
    method.eviction = base_.eviction == "last" ? "normal" : "last";
    add(method, method.eviction == "last"
                    ? "evicted last: other traffic may evict the lines before they are read"
                    : "evicted normally: protected lines displace others");
  }

  void add_start() {
    IssueMethod method = base_;
    method.issue = base_.issue == "after" ? "before" : "after";
    add(method, method.issue == "before"
                    ? "issued without waiting for the collective to start: more time to arrive"
                    : "issued when the collective has started: does not delay it");
  }

  std::vector<IssueVariant> take() { return std::move(out_); }

 private:
  const IssueMethod& base_;
  std::vector<IssueVariant> out_;
};

}  // namespace

std::vector<IssueVariant> issue_variants(const DeviceModel& device, const IssueMethod& base) {
  Variants variants(base);
  variants.add_methods(device);
  if (device.kind == "gpu") {
    variants.add_blocks(device.multiprocessors);
    variants.add_chunks();
    variants.add_eviction();
  }
  // The consumer's own core can only fetch once the collective runs without it.
  if (device.kind == "gpu" || base.placement == "spare") variants.add_start();
  return variants.take();
}

}  // namespace preserve
