// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_gpu_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/error.h"

namespace preserve::test {
namespace {

constexpr int64_t kLinkPieceBytes = 4096;

// What a node moves: ranges to read or fetch, then ranges to write.
size_t pieces_of(const GpuNode& node) {
  return node.ranges.size() + node.writes.size();
}

const GpuRange& piece_of(const GpuNode& node, size_t piece) {
  return piece < node.ranges.size() ? node.ranges[piece] : node.writes[piece - node.ranges.size()];
}

bool is_library(const GpuNode& node) {
  return node.kind == GpuNodeKind::gemm || node.kind == GpuNodeKind::collective;
}

int share_of_half(int sm_half) {
  return sm_half == 0 ? 1 : 2;
}

}  // namespace

FakeGpuRun::FakeGpuRun(FakeGpu& gpu, const GpuGraph& graph, bool sums)
    : gpu_(gpu),
      properties_(gpu.properties_),
      graph_(graph),
      sums_(sums),
      states_(graph.nodes.size()) {
  now_ns_ = gpu.now_ns_;
  for (State& state : states_) {
    if (properties_.noise <= 0) continue;
    std::normal_distribution<double> rate(1, properties_.noise);
    state.rate_factor = std::clamp(rate(gpu.random_), 0.2, 5.0);
  }
  link_nodes();
}

void FakeGpuRun::link_nodes() {
  const size_t nodes = graph_.nodes.size();
  on_end_.resize(nodes);
  on_begin_.resize(nodes);
  std::vector<std::optional<size_t>> last(2);
  for (size_t i = 0; i < nodes; ++i) {
    for (const int before : node(i).after) {
      auto& waiting = node(i).with_start_of ? on_begin_ : on_end_;
      waiting[static_cast<size_t>(before)].push_back(i);
      ++states_[i].missing;
    }
    if (graph_.as_graph) continue;
    auto& before = last[static_cast<size_t>(node(i).stream)];
    if (before) {
      on_end_[*before].push_back(i);
      ++states_[i].missing;
    }
    before = i;
  }
}

// A prefetch hangs on what the node waits for.
bool FakeGpuRun::forked(size_t index) const {
  if (!graph_.as_graph || node(index).kind == GpuNodeKind::prefetch) return false;
  for (const int before : node(index).after) {
    for (const auto* waiting : {&on_end_, &on_begin_}) {
      for (const size_t other : (*waiting)[static_cast<size_t>(before)]) {
        if (node(other).kind == GpuNodeKind::prefetch) return true;
      }
    }
  }
  return false;
}

void FakeGpuRun::execute() {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i].missing == 0) {
      ++states_[i].missing;
      release(i);
    }
  }
  while (!events_.empty()) {
    const auto [at_ns, index] = events_.top();
    events_.pop();
    now_ns_ = at_ns;
    switch (states_[index].phase) {
      case Phase::waiting:
        begin(index);
        break;
      case Phase::started:
        start_work(index);
        break;
      case Phase::working:
        advance(index);
        break;
      case Phase::held:
        finish(index);
        break;
      case Phase::ended:
        throw internal_error("an event of node {} after its end", index);
    }
  }
  gpu_.now_ns_ = now_ns_;
}

void FakeGpuRun::release(size_t index) {
  if (--states_[index].missing > 0) return;
  int64_t delay_ns = properties_.launch_gap_ns;
  if (node(index).with_start_of) {
    delay_ns = properties_.launch_order_start_ns;
  } else if (node(index).kind == GpuNodeKind::prefetch) {
    delay_ns = graph_.as_graph || node(index).stream == 0 ? properties_.leaf_start_ns
                                                          : properties_.side_stream_start_ns;
  }
  if (forked(index)) delay_ns += properties_.fork_ns;
  schedule(index, now_ns_ + static_cast<double>(delay_ns) * gpu_.slowdown_);
}

void FakeGpuRun::begin(size_t index) {
  State& state = states_[index];
  state.phase = Phase::started;
  state.begin_ns = now_ns_;
  if (first_ns_ < 0) first_ns_ = now_ns_;
  for (const size_t waiting : on_begin_[index]) release(waiting);
  schedule(index, now_ns_ + static_cast<double>(node(index).wait_before_ns));
}

void FakeGpuRun::start_work(size_t index) {
  State& state = states_[index];
  const GpuNode& what = node(index);
  state.phase = Phase::working;
  state.start_ns = now_ns_;
  state.left = what.kind == GpuNodeKind::chase ? what.hops : what.link_bytes;
  if (what.kind == GpuNodeKind::chase) state.chain = what.ranges[0].address;
  if (what.kind == GpuNodeKind::collective) {  // shares nothing
    const double dur_ns =
        static_cast<double>(properties_.nccl_latency_ns) +
        static_cast<double>(what.message_bytes) * 1e9 / properties_.nccl_bytes_per_s;
    state.phase = Phase::held;
    schedule(index, now_ns_ + dur_ns * gpu_.slowdown_ / state.rate_factor);
    return;
  }
  advance(index);
}

void FakeGpuRun::advance(size_t index) {
  State& state = states_[index];
  const GpuNode& what = node(index);
  state.cold_demand = 0;
  const double piece_ns = next_piece_ns(index);
  if (piece_ns >= 0) {
    schedule(index, now_ns_ + piece_ns * gpu_.slowdown_ / state.rate_factor);
    return;
  }
  double until_ns = now_ns_ + static_cast<double>(what.wait_after_ns);
  if (what.kind == GpuNodeKind::stand_in) {
    const double held_ns = state.start_ns + static_cast<double>(what.hold_ns);
    until_ns = std::max(now_ns_, held_ns) + static_cast<double>(what.wait_after_ns);
  }
  if (what.kind == GpuNodeKind::gemm) {
    const double flops = 2.0 * static_cast<double>(what.m) * static_cast<double>(what.n) *
                         static_cast<double>(what.k);
    until_ns =
        std::max(until_ns, state.start_ns + flops * 1e9 / properties_.flops_per_s * gpu_.slowdown_);
  }
  state.phase = Phase::held;
  schedule(index, until_ns);
}

void FakeGpuRun::finish(size_t index) {
  states_[index].phase = Phase::ended;
  states_[index].end_ns = now_ns_;
  for (const size_t waiting : on_end_[index]) release(waiting);
}

double FakeGpuRun::next_piece_ns(size_t index) {
  switch (node(index).kind) {
    case GpuNodeKind::read:
    case GpuNodeKind::prefetch:
    case GpuNodeKind::gemm:
      return move_block_ns(index);
    case GpuNodeKind::stand_in:
      return link_piece_ns(index);
    case GpuNodeKind::chase:
      return hop_ns(index);
    case GpuNodeKind::collective:
      break;
  }
  throw internal_error("a node without pieces");
}

double FakeGpuRun::move_block_ns(size_t index) {
  State& state = states_[index];
  const GpuNode& what = node(index);
  while (state.range < pieces_of(what) && state.offset_bytes >= piece_of(what, state.range).bytes) {
    ++state.range;
    state.offset_bytes = 0;
  }
  if (state.range >= pieces_of(what)) return -1;
  const GpuRange& range = piece_of(what, state.range);
  const bool writes = state.range >= what.ranges.size();
  const int64_t wrap_bytes = what.wrap_bytes > 0 && !writes ? what.wrap_bytes : range.bytes;
  const int64_t place = state.offset_bytes % wrap_bytes;
  const GpuAddress address = range.address + static_cast<GpuAddress>(place);
  const int64_t block_bytes = gpu_.l2_.block_bytes();
  const auto in_block = static_cast<int64_t>(address % static_cast<GpuAddress>(block_bytes));
  const int64_t bytes =
      std::min({block_bytes - in_block, wrap_bytes - place, range.bytes - state.offset_bytes});
  state.offset_bytes += bytes;
  if (sums_ && what.kind == GpuNodeKind::read && !writes) add_words(address, bytes);
  if (what.kind == GpuNodeKind::prefetch) gpu_.prefetched_bytes_ += bytes;

  const int halves = gpu_.l2_.halves_with(address);
  const int mine = what.sm_half != 0 ? what.sm_half : 1 + static_cast<int>(address / 4096 % 2);
  gpu_.l2_.touch(address, what.kind == GpuNodeKind::prefetch ? what.eviction : GpuEviction::normal,
                 mine);
  const double part = what.ctas == 0 || what.kind == GpuNodeKind::prefetch
                          ? 1.0
                          : std::min(1.0, static_cast<double>(what.ctas) / properties_.facts.sms);
  double rate = 0;
  if (halves != 0) {
    rate = hit_rate(what, halves) * part;
  } else {
    double demand = properties_.cold_bytes_per_s * part / share_of_half(what.sm_half);
    if (what.kind == GpuNodeKind::prefetch) {
      demand = properties_.prefetch_bytes_per_s
                   ? properties_.prefetch_bytes_per_s(what.fetch, what.ctas, what.chunk_bytes)
                   : 0.8 * properties_.cold_bytes_per_s;
    }
    rate = shared_rate(index, demand);
    state.cold_demand = demand;
  }
  const bool slowed = what.kind == GpuNodeKind::read && what.ctas > 0 && prefetching();
  return static_cast<double>(bytes) * 1e9 / rate * (slowed ? properties_.few_blocks_slowdown : 1);
}

double FakeGpuRun::hit_rate(const GpuNode& node, int halves) const {
  const double near = properties_.hot_bytes_per_s;
  const double far = properties_.far_bytes_per_s;
  if (far <= 0) return near / share_of_half(node.sm_half);
  if (node.sm_half == 0) return 2 / (1 / near + 1 / far);  // half of the SMs are far
  return (node.sm_half & halves ? near : far) / 2;
}

double FakeGpuRun::shared_rate(size_t index, double demand) const {
  double all = demand;
  for (size_t i = 0; i < states_.size(); ++i) {
    if (i != index) all += states_[i].cold_demand;
  }
  const double memory = properties_.cold_bytes_per_s;
  return all > memory ? demand * memory / all : demand;
}

bool FakeGpuRun::prefetching() const {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (node(i).kind == GpuNodeKind::prefetch && states_[i].cold_demand > 0) return true;
  }
  return false;
}

double FakeGpuRun::link_piece_ns(size_t index) {
  State& state = states_[index];
  if (state.left <= 0) return -1;
  const int64_t bytes = std::min(state.left, kLinkPieceBytes);
  state.left -= bytes;
  const double dur_ns = static_cast<double>(bytes) * 1e9 / properties_.host_link_bytes_per_s;
  return prefetching() ? dur_ns * properties_.link_slowdown : dur_ns;
}

double FakeGpuRun::hop_ns(size_t index) {
  State& state = states_[index];
  if (state.left <= 0) return -1;
  --state.left;
  const GpuNode& what = node(index);
  const int halves = gpu_.l2_.halves_with(state.chain);
  const int mine = what.sm_half != 0 ? what.sm_half : 1 + static_cast<int>(state.chain / 4096 % 2);
  gpu_.l2_.touch(state.chain, GpuEviction::normal, mine);
  std::memcpy(&state.chain, gpu_.host(state.chain), sizeof state.chain);
  const bool is_near = (halves & mine) != 0 || properties_.far_bytes_per_s <= 0;
  const double latency_ns = halves == 0 ? properties_.chase_miss_ns
                            : is_near   ? properties_.chase_hit_ns
                                        : properties_.chase_far_ns;
  return prefetching() ? latency_ns * properties_.chase_slowdown : latency_ns;
}

void FakeGpuRun::add_words(GpuAddress address, int64_t bytes) {
  const std::byte* from = gpu_.host(address);
  for (int64_t at = 0; at + 4 <= bytes; at += 4) {
    uint32_t word = 0;
    std::memcpy(&word, from + at, sizeof word);
    checksum_ += word;
  }
}

double FakeGpuRun::seen_start_ns(size_t index) const {
  if (!is_library(node(index)) || node(index).after.empty()) return states_[index].start_ns;
  double start_ns = 0;
  for (const int before : node(index).after) {
    start_ns = std::max(start_ns, states_[static_cast<size_t>(before)].end_ns);
  }
  return start_ns;
}

double FakeGpuRun::seen_end_ns(size_t index) const {
  double end_ns = std::numeric_limits<double>::infinity();
  if (is_library(node(index))) {
    for (const size_t next : on_end_[index]) end_ns = std::min(end_ns, states_[next].begin_ns);
  }
  if (!std::isinf(end_ns)) return end_ns;
  // Behind the last of a library's something has to begin that tells its end.
  const bool told = !is_library(node(index));
  return states_[index].end_ns + (told ? 0 : static_cast<double>(properties_.launch_gap_ns));
}

double FakeGpuRun::op_start_ns(int op) const {
  double start_ns = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < states_.size(); ++i) {
    if (node(i).op == op) start_ns = std::min(start_ns, seen_start_ns(i));
  }
  return std::isinf(start_ns) ? 0 : start_ns - first_ns_;
}

double FakeGpuRun::op_ns(int op) const {
  double start_ns = std::numeric_limits<double>::infinity();
  double end_ns = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    if (node(i).op != op) continue;
    start_ns = std::min(start_ns, seen_start_ns(i));
    end_ns = std::max(end_ns, seen_end_ns(i));
  }
  return end_ns > 0 ? end_ns - start_ns : 0;
}

}  // namespace preserve::test
