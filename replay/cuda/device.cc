// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "common/rounded_up.h"
#include "common/units.h"
#include "replay/cuda/error.h"
#include "replay/cuda/open_device.h"
#include "replay/cuda/sm_latency.h"
#include "replay/cuda/step/graph.h"
#include "replay/gpu/graph_check.h"

namespace preserve {
namespace cuda {
namespace {

// Means over some executions hide a tick of a microsecond, not one of a millisecond.
constexpr int64_t kCoarsestTickNs = 10'000;
constexpr uint64_t kArithmeticRounds = 4000;  // of 16 operations: 150 us at 1.7 GHz

class CudaDevice : public GpuDevice {
 public:
  explicit CudaDevice(int ordinal) : opened_(open(ordinal)) {
    parts_.facts = facts_of(ordinal, *opened_.nvml);
    set_aside_bytes_ = parts_.facts.persisting_l2_default_bytes;
    own_pids_ = own_pids(opened_.pids, opened_.nvml->compute_pids());
    clock_ = DeviceMemory(sizeof(ClockRate));
    PRESERVE_CUDA_CALL(cudaMemset, clock_.get(), 0, sizeof(ClockRate));
    parts_.clock = clock_.at<ClockRate>(0);
    probe_ = DeviceMemory(2 * sizeof(uint64_t));
    measure_timer();
    parts_.link_buffer = [this] { return link_buffer(); };
    parts_.fit = [this](const Kernel& kernel) { return blocks_per_sm(kernel); };
    parts_.nccl = &nccl_;
    parts_.products = &products_;
  }
  // Graphs hold what libraries gave them.
  ~CudaDevice() override { graphs_.clear(); }

  const GpuFacts& facts() const override { return parts_.facts; }
  GpuState state() override { return opened_.nvml->state(own_pids_); }

  GpuAddress allocate(int64_t bytes) override;
  void make_chain(GpuAddress address, int64_t bytes, uint64_t seed) override;

  int add(const GpuGraph& graph) override;
  void drop(int graph) override {
    if (graphs_.erase(graph) == 0)
      throw internal_error("cannot drop GPU graph {}: it does not exist", graph);
  }
  GpuRun run(int graph, int times) override {
    const auto found = graphs_.find(graph);
    if (found == graphs_.end())
      throw internal_error("cannot run GPU graph {}: it does not exist", graph);
    return found->second->run(times);
  }

  void set_persisting_l2(std::optional<int64_t> bytes) override;
  int64_t probe_clock_ns() override;
  const std::vector<int>& sm_halves() override;

  std::string make_collective_id() override { return nccl_.make_id(); }
  void join(const std::string& id, int rank, int ranks) override { nccl_.join(id, rank, ranks); }
  bool can_multiply(GpuElement element) override { return products_.can_multiply(element); }

 private:
  struct Opened {
    std::unique_ptr<Nvml> nvml;
    std::vector<int64_t> pids;  // before this process was there
  };
  static Opened open(int ordinal) {
    Opened opened{std::make_unique<Nvml>(pci_bus_id(ordinal)), {}};
    opened.pids = opened.nvml->compute_pids();
    open_current_device(ordinal);
    return opened;
  }

  uint64_t ask_kernel(const Kernel& kernel, void** arguments);
  void measure_timer();
  void* link_buffer();
  int blocks_per_sm(const Kernel& kernel);

  Opened opened_;
  std::vector<int64_t> own_pids_;
  DeviceParts parts_;
  Stream main_, side_;
  Nccl nccl_;
  MatrixProducts products_;
  DeviceMemory clock_, probe_, halves_memory_;
  std::unique_ptr<MappedMemory> link_;
  std::vector<DeviceMemory> memory_;
  std::vector<GpuRange> allocations_;
  std::map<GpuAddress, int64_t> chains_;  // address: bytes
  std::map<const void*, int> blocks_per_sm_;
  std::optional<std::vector<int>> halves_;
  std::map<int, std::unique_ptr<StepGraph>> graphs_;
  int next_graph_ = 0;
  int64_t set_aside_bytes_ = 0;
};

GpuAddress CudaDevice::allocate(int64_t bytes) {
  if (bytes <= 0) throw internal_error("{} bytes of device memory were asked for", bytes);
  // Whole periods of the pattern; cudaMalloc aligns to 256.
  const size_t whole = static_cast<size_t>(rounded_up(bytes, kGpuPatternBytes));
  DeviceMemory memory(whole + kGpuPatternBytes);
  const auto given = reinterpret_cast<GpuAddress>(memory.get());
  const GpuAddress address = rounded_up(given, kGpuPatternBytes);
  fill_pattern(reinterpret_cast<void*>(address), whole, main_.get());
  PRESERVE_CUDA_CALL(cudaStreamSynchronize, main_.get());
  memory_.push_back(std::move(memory));
  allocations_.push_back({address, bytes});
  return address;
}

void CudaDevice::make_chain(GpuAddress address, int64_t bytes, uint64_t seed) {
  const auto lines = static_cast<uint64_t>(std::max<int64_t>(bytes, 0)) / kLineBytes;
  const bool inside =
      std::ranges::any_of(allocations_, [&](const GpuRange& allocation) {
        return address >= allocation.address && bytes <= allocation.bytes &&
               address - allocation.address <= static_cast<uint64_t>(allocation.bytes - bytes);
      });
  if (lines < 2 || address % kLineBytes != 0 || !inside) {
    throw internal_error("a chain of {} bytes at {:#x} is not made of allocated lines", bytes,
                         address);
  }
  std::vector<uint64_t> order(lines), next(lines);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  for (uint64_t i = 0; i < lines; ++i) next[order[i]] = order[(i + 1) % lines];
  const DeviceMemory on_device(lines * sizeof(uint64_t));
  PRESERVE_CUDA_CALL(cudaMemcpy, on_device.get(), next.data(), lines * sizeof(uint64_t),
                     cudaMemcpyHostToDevice);
  const auto* links = static_cast<const uint64_t*>(on_device.get());
  uint64_t count = lines;
  void* arguments[] = {&address, &links, &count};
  const Kernel kernel = link_kernel();
  // In the stream of the copy, which may return before it has arrived.
  PRESERVE_CUDA_CALL(cudaLaunchKernel, kernel.function, dim3(256),
                     dim3(static_cast<unsigned>(kernel.threads)), arguments, 0, nullptr);
  PRESERVE_CUDA_CALL(cudaDeviceSynchronize);
  chains_[address] = bytes;
}

int CudaDevice::add(const GpuGraph& graph) {
  check_graph(graph, parts_.facts, allocations_);
  for (const GpuNode& node : graph.nodes) {
    if (node.sm_half != 0) sm_halves();
    if (node.kind != GpuNodeKind::chase) continue;
    const auto chain = chains_.find(node.ranges[0].address);
    // A part of a chain would leave itself, but never the chain.
    if (chain == chains_.end() || node.ranges[0].bytes > chain->second) {
      throw internal_error("a chase where make_chain() made no chain");
    }
  }
  graphs_[next_graph_] = std::make_unique<StepGraph>(parts_, graph, main_.get(), side_.get());
  return next_graph_++;
}

void CudaDevice::set_persisting_l2(std::optional<int64_t> bytes) {
  const GpuFacts& facts = parts_.facts;
  const int64_t wanted = bytes.value_or(facts.persisting_l2_default_bytes);
  if (bytes && (wanted < 0 || wanted > facts.persisting_l2_max_bytes)) {
    throw input_error("{} can set aside {} of its L2 for persisting lines, not {}", facts.name,
                      format_size(facts.persisting_l2_max_bytes), format_size(wanted));
  }
  if (facts.persisting_l2_max_bytes == 0) return;
  if (wanted != set_aside_bytes_) {  // mostly it is no change, and a change may take long
    PRESERVE_CUDA_CALL(cudaDeviceSetLimit, cudaLimitPersistingL2CacheSize,
                       static_cast<size_t>(wanted));
    set_aside_bytes_ = wanted;
  }
  PRESERVE_CUDA_CALL(cudaCtxResetPersistingL2Cache);
}

int64_t CudaDevice::probe_clock_ns() {
  auto* answer = probe_.at<uint64_t>(0);
  uint64_t rounds = kArithmeticRounds;
  void* arguments[] = {&answer, &rounds};
  return static_cast<int64_t>(ask_kernel(arithmetic_kernel(), arguments));
}

void CudaDevice::measure_timer() {
  auto* answer = probe_.at<uint64_t>(0);
  void* arguments[] = {&answer};
  GpuFacts& facts = parts_.facts;
  facts.timer_tick_ns = static_cast<int64_t>(ask_kernel(timer_tick_kernel(), arguments));
  if (facts.timer_tick_ns <= kCoarsestTickNs) return;
  throw input_error("the timer of {} ticks every {}: too seldom to time operators by", facts.name,
                    format_duration(facts.timer_tick_ns));
}

// One thread, which leaves its answer at the beginning of probe_.
uint64_t CudaDevice::ask_kernel(const Kernel& kernel, void** arguments) {
  PRESERVE_CUDA_CALL(cudaLaunchKernel, kernel.function, dim3(1), dim3(1), arguments, 0,
                     main_.get());
  PRESERVE_CUDA_CALL(cudaStreamSynchronize, main_.get());
  uint64_t answer = 0;
  PRESERVE_CUDA_CALL(cudaMemcpy, &answer, probe_.get(), sizeof(answer), cudaMemcpyDeviceToHost);
  return answer;
}

const std::vector<int>& CudaDevice::sm_halves() {
  if (halves_) return *halves_;
  halves_ = measure_sm_halves(parts_.facts);
  if (halves_->empty()) return *halves_;
  const std::vector<uint8_t> compact(halves_->begin(), halves_->end());
  halves_memory_ = DeviceMemory(compact.size());
  PRESERVE_CUDA_CALL(cudaMemcpy, halves_memory_.get(), compact.data(), compact.size(),
                     cudaMemcpyHostToDevice);
  parts_.sm_halves = halves_memory_.at<uint8_t>(0);
  return *halves_;
}

void* CudaDevice::link_buffer() {
  if (!link_) link_ = std::make_unique<MappedMemory>(kLinkBufferBytes);
  return link_->device();
}

int CudaDevice::blocks_per_sm(const Kernel& kernel) {
  const auto [at, is_new] = blocks_per_sm_.try_emplace(kernel.function, 0);
  if (is_new) {
    PRESERVE_CUDA_CALL(cudaOccupancyMaxActiveBlocksPerMultiprocessor, &at->second, kernel.function,
                       kernel.threads, 0);
    at->second = std::max(at->second, 1);
  }
  return at->second;
}

}  // namespace
}  // namespace cuda

std::unique_ptr<GpuDevice> open_cuda_device(int ordinal) {
  return std::make_unique<cuda::CudaDevice>(ordinal);
}

int count_cuda_devices() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  cudaGetLastError();
  return 0;
}

}  // namespace preserve
