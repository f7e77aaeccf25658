// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/step/data.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/rounded_up.h"
#include "replay/cuda/error.h"

namespace preserve::cuda {
namespace {

constexpr int kReadBlocksPerSm =
    4;  // more gain nothing, and leave no room for what runs at the same time
constexpr uint32_t kMostChunkBytes = 1U << 30;
constexpr size_t kFillAlignment = 16;

uint64_t unit_bytes(const GpuNode& node) {
  if (node.kind != GpuNodeKind::prefetch) return kReadUnitBytes;
  switch (node.fetch) {
    case GpuFetch::bulk_l2:
      return static_cast<uint64_t>(node.chunk_bytes);
    case GpuFetch::prefetch_l2:
      return kLineUnitBytes;
    case GpuFetch::load:
      return kLoadUnitBytes;
  }
  throw internal_error("unknown way to prefetch");
}

DeviceMemory filled(size_t bytes) {
  const size_t whole = rounded_up(std::max<size_t>(bytes, 1), kFillAlignment);
  DeviceMemory memory(whole);
  fill_pattern(memory.get(), whole, nullptr);
  return memory;
}

void grow(size_t& most, size_t bytes) {
  most = std::max(most, bytes);
}

}  // namespace

void fill_pattern(void* memory, size_t bytes, cudaStream_t stream) {
  auto address = reinterpret_cast<uint64_t>(memory);
  uint64_t length = rounded_up(bytes, kFillAlignment);
  const Kernel fill = fill_kernel();
  const auto blocks = static_cast<unsigned>(std::clamp<uint64_t>(length / 16384, 1, 4096));
  void* arguments[] = {&address, &length};
  PRESERVE_CUDA_CALL(cudaLaunchKernel, fill.function, dim3(blocks),
                     dim3(static_cast<unsigned>(fill.threads)), arguments, 0, stream);
}

StepData::StepData(const DeviceParts& parts, const GpuGraph& graph, const StepPlan& plan)
    : parts_(parts) {
  std::vector<Offsets> offsets;
  for (const GpuNode& node : graph.nodes) offsets.push_back(add_tables(node));
  const auto slots = static_cast<size_t>(plan.slots);
  const size_t slots_at = image_.add(slots * sizeof(StampSlot), alignof(StampSlot));
  const size_t shares_at =
      image_.add(static_cast<size_t>(shares_) * sizeof(Shares), alignof(Shares));
  const size_t totals_at = image_.add(sizeof(StepTotals), 128);
  std::vector<std::byte> image = image_.bytes();
  for (size_t i = 0; i < slots; ++i) {
    const StampSlot slot{kNever, 0, 0, 0, static_cast<uint64_t>(plan.wait_before_ns[i])};
    std::memcpy(&image[slots_at + i * sizeof(slot)], &slot, sizeof(slot));
  }
  memory_ = DeviceMemory(image.size());
  PRESERVE_CUDA_CALL(cudaMemcpy, memory_.get(), image.data(), image.size(), cudaMemcpyHostToDevice);
  closing_ = {memory_.at<StampSlot>(slots_at),   memory_.at<Shares>(shares_at),
              memory_.at<StepTotals>(totals_at), parts_.clock,
              static_cast<uint32_t>(plan.slots), static_cast<uint32_t>(shares_)};
  prepare_libraries(graph);
  for (const StepNode& step : plan.nodes) {
    if (step.role == StepRole::closing) continue;
    Launch launch{.kernel = stamp_kernel(), .blocks = 1};
    if (step.role == StepRole::node) {
      const auto index = static_cast<size_t>(step.node);
      const GpuNode& node = graph.nodes[index];
      if (node.kind == GpuNodeKind::gemm) {
        launch.library = product_call(node, static_cast<size_t>(piece_of_[index]));
      } else if (node.kind == GpuNodeKind::collective) {
        launch.library = collective_call(node);
      } else {
        set_work(node, offsets[index], launch);
      }
    }
    launch.args.slot = step.slot >= 0 ? closing_.slots + step.slot : nullptr;
    launches_.push_back(std::move(launch));
  }
}

StepData::Offsets StepData::add_tables(const GpuNode& node) {
  Offsets offsets;
  if (is_library(node)) return offsets;
  const bool has_ranges = node.kind == GpuNodeKind::read || node.kind == GpuNodeKind::prefetch;
  if (has_ranges) {
    const bool lines = node.kind == GpuNodeKind::prefetch && node.fetch == GpuFetch::prefetch_l2;
    offsets.reads = image_.add_table(node.ranges, unit_bytes(node), lines);
    offsets.writes = image_.add_table(node.writes, kReadUnitBytes, false);
  }
  if (node.sm_half != 0) offsets.share = shares_++;
  return offsets;
}

void StepData::set_work(const GpuNode& node, const Offsets& offsets, Launch& launch) const {
  NodeArgs& args = launch.args;
  args.clock = parts_.clock;
  args.wait_before_ns = static_cast<uint64_t>(node.wait_before_ns);
  args.wait_after_ns = static_cast<uint64_t>(node.wait_after_ns);
  args.reads = memory_.at<RangeTable>(offsets.reads);
  args.writes = memory_.at<RangeTable>(offsets.writes);
  args.sums = closing_.totals->sums;
  if (node.sm_half != 0) {
    if (parts_.sm_halves == nullptr) {
      throw input_error("{}: the halves of its L2 cannot be told apart", parts_.facts.name);
    }
    args.sm_halves = parts_.sm_halves;
    args.sms = static_cast<uint32_t>(parts_.facts.sms);
    args.half = static_cast<uint32_t>(node.sm_half);
    args.shares = closing_.shares + offsets.share;
  }
  set_kernel(node, launch);
  set_grid(node, launch);
}

void StepData::set_kernel(const GpuNode& node, Launch& launch) const {
  NodeArgs& args = launch.args;
  const bool half = node.sm_half != 0;
  switch (node.kind) {
    case GpuNodeKind::read: {
      const int64_t pages = node.wrap_bytes / kGpuPatternBytes;
      const bool wraps = pages > 0 && pages < std::numeric_limits<uint32_t>::max();
      args.wrap_pages = wraps ? static_cast<uint32_t>(pages) : std::numeric_limits<uint32_t>::max();
      launch.kernel = read_kernel(half);
      return;
    }
    case GpuNodeKind::prefetch:
      if (node.fetch == GpuFetch::bulk_l2) {
        if (parts_.facts.compute_major < 9) {
          throw input_error("{} has no bulk prefetch (compute capability 9.0 has)",
                            parts_.facts.name);
        }
        if (node.chunk_bytes > kMostChunkBytes) throw internal_error("chunk of over 1 GiB");
        args.chunk_bytes = static_cast<uint32_t>(node.chunk_bytes);
      }
      launch.kernel = prefetch_kernel(node.fetch, node.eviction, half);
      return;
    case GpuNodeKind::stand_in:
      if (half) throw internal_error("a stand-in cannot be limited to half of the SMs");
      args.hold_ns = static_cast<uint64_t>(node.hold_ns);
      args.link_words = (static_cast<uint64_t>(node.link_bytes) + 15) / 16;
      args.link_mask = kLinkBufferBytes / 16 - 1;
      if (args.link_words > 0) args.link = parts_.link_buffer();
      launch.kernel = stand_in_kernel();
      return;
    case GpuNodeKind::chase:
      args.chain = node.ranges[0].address;
      args.chain_lines = static_cast<uint64_t>(node.ranges[0].bytes) / kLineBytes;
      args.hops = static_cast<uint64_t>(node.hops);
      if (args.chain % kLineBytes != 0 || args.chain_lines == 0) {
        throw internal_error("a chase needs whole cache lines");
      }
      launch.kernel = chase_kernel(half);
      return;
    case GpuNodeKind::gemm:
    case GpuNodeKind::collective:
      break;
  }
  throw internal_error("no kernel for this node");
}

// With a half, the grid must reach all SMs, and `ctas` is how many may stay.
void StepData::set_grid(const GpuNode& node, Launch& launch) const {
  if (node.sm_half != 0) {
    launch.blocks = static_cast<unsigned>(parts_.facts.sms * parts_.fit(launch.kernel));
    launch.args.places =
        static_cast<uint32_t>(node.kind == GpuNodeKind::chase ? std::max(node.ctas, 1) : node.ctas);
    return;
  }
  if (node.ctas > 0) {
    launch.blocks = static_cast<unsigned>(node.ctas);
    return;
  }
  if (node.kind != GpuNodeKind::read) {
    launch.blocks = 1;
    return;
  }
  uint64_t units = 1;
  for (const std::vector<GpuRange>& ranges : {node.ranges, node.writes}) {
    uint64_t of_these = 0;
    for (const GpuRange& range : ranges) {
      of_these += (static_cast<uint64_t>(range.bytes) + kReadUnitBytes - 1) / kReadUnitBytes;
    }
    units = std::max(units, of_these);
  }
  const int per_sm = std::min(kReadBlocksPerSm, parts_.fit(launch.kernel));
  launch.blocks = static_cast<unsigned>(
      std::min<uint64_t>(units, static_cast<uint64_t>(per_sm * parts_.facts.sms)));
}

void StepData::prepare_libraries(const GpuGraph& graph) {
  piece_of_ = share_scratch(graph);
  size_t send_bytes = 0, receive_bytes = 0;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const GpuNode& node = graph.nodes[i];
    if (node.kind == GpuNodeKind::collective) {
      const Nccl::Buffers buffers = parts_.nccl->buffers(node.function, node.message_bytes);
      grow(send_bytes, static_cast<size_t>(buffers.send_bytes));
      grow(receive_bytes, static_cast<size_t>(buffers.receive_bytes));
    } else if (node.kind == GpuNodeKind::gemm) {
      const auto piece = static_cast<size_t>(piece_of_[i]);
      if (pieces_.size() <= piece) pieces_.resize(piece + 1);
      const MatrixProducts::Scratch needed =
          MatrixProducts::scratch(parts_.products->prepare(node.m, node.n, node.k, node.element));
      grow(pieces_[piece].bytes.activation_bytes, needed.activation_bytes);
      grow(pieces_[piece].bytes.result_bytes, needed.result_bytes);
      grow(pieces_[piece].bytes.workspace_bytes, needed.workspace_bytes);
    }
  }
  for (Piece& piece : pieces_) {
    piece.activations = filled(piece.bytes.activation_bytes);
    piece.result = filled(piece.bytes.result_bytes);
    piece.workspace = DeviceMemory(std::max<size_t>(piece.bytes.workspace_bytes, 1));
  }
  if (receive_bytes > 0) {
    send_ = filled(send_bytes);
    receive_ = filled(receive_bytes);
  }
  // Copies and fills are in the default stream, which the step's streams do not wait for.
  PRESERVE_CUDA_CALL(cudaDeviceSynchronize);
}

std::function<void(cudaStream_t)> StepData::product_call(const GpuNode& node, size_t piece) const {
  const MatrixProducts::Product& product =
      parts_.products->prepare(node.m, node.n, node.k, node.element);
  const Piece& scratch = pieces_[piece];
  return [products = parts_.products, &product, &scratch,
          weights = node.ranges[0].address](cudaStream_t stream) {
    products->enqueue(product, reinterpret_cast<const void*>(weights), scratch.activations.get(),
                      scratch.result.get(), scratch.workspace.get(), stream);
  };
}

std::function<void(cudaStream_t)> StepData::collective_call(const GpuNode& node) const {
  return [nccl = parts_.nccl, function = node.function, bytes = node.message_bytes,
          send = send_.get(), receive = receive_.get()](cudaStream_t stream) {
    nccl->enqueue(function, bytes, send, receive, stream);
  };
}

std::vector<StampMeans> StepData::read_slots(uint64_t steps) const {
  std::vector<StampSlot> slots(closing_.slot_count);
  PRESERVE_CUDA_CALL(cudaMemcpy, slots.data(), closing_.slots, slots.size() * sizeof(StampSlot),
                     cudaMemcpyDeviceToHost);
  std::vector<StampMeans> means;
  means.reserve(slots.size());
  for (const StampSlot& slot : slots) {
    means.push_back({static_cast<double>(slot.sum_first) / static_cast<double>(steps),
                     static_cast<double>(slot.sum_last) / static_cast<double>(steps)});
  }
  return means;
}

StepTotals StepData::read_totals() const {
  StepTotals totals{};
  PRESERVE_CUDA_CALL(cudaMemcpy, &totals, closing_.totals, sizeof(totals), cudaMemcpyDeviceToHost);
  return totals;
}

}  // namespace preserve::cuda
