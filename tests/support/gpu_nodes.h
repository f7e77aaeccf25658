// SPDX-License-Identifier: Apache-2.0
// Nodes of a GPU's graphs, as most tests want them; what else they have, a test sets.
#pragma once

#include <utility>
#include <vector>

#include "replay/gpu/device.h"

namespace preserve::test {

inline GpuNode node_of(GpuNodeKind kind, int op, std::vector<int> after = {}) {
  GpuNode node;
  node.kind = kind;
  node.op = op;
  node.after = std::move(after);
  return node;
}
inline GpuNode read_of(std::vector<GpuRange> ranges, int op, std::vector<int> after = {}) {
  GpuNode node = node_of(GpuNodeKind::read, op, std::move(after));
  node.ranges = std::move(ranges);
  return node;
}
inline GpuNode stand_in_of(int64_t hold_ns, int op, std::vector<int> after = {}) {
  GpuNode node = node_of(GpuNodeKind::stand_in, op, std::move(after));
  node.ctas = 16;
  node.hold_ns = hold_ns;
  return node;
}
inline GpuNode prefetch_of(GpuRange range, std::vector<int> after = {},
                           GpuFetch fetch = GpuFetch::bulk_l2) {
  GpuNode node = node_of(GpuNodeKind::prefetch, -1, std::move(after));
  node.ranges = {range};
  node.fetch = fetch;
  node.ctas = 16;
  node.chunk_bytes = 4096;
  return node;
}
inline GpuNode product_of(int64_t m, int64_t n, int64_t k, GpuElement element, GpuRange weights) {
  GpuNode node = node_of(GpuNodeKind::gemm, 0);
  node.m = m;
  node.n = n;
  node.k = k;
  node.element = element;
  node.ranges = {weights};
  return node;
}
inline GpuNode allreduce_of(int64_t message_bytes, int op, std::vector<int> after = {}) {
  GpuNode node = node_of(GpuNodeKind::collective, op, std::move(after));
  node.function = "allreduce";
  node.message_bytes = message_bytes;
  return node;
}
inline GpuNode chase_of(GpuRange chain, int64_t hops) {
  GpuNode node = node_of(GpuNodeKind::chase, 0);
  node.ranges = {chain};
  node.hops = hops;
  return node;
}

}  // namespace preserve::test
