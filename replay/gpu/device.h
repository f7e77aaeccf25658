// SPDX-License-Identifier: Apache-2.0
// A GPU as calibration and replay see it: memory, step graphs, what a run of one took. replay/cuda
// implements it with CUDA; tests implement it with a simulated GPU whose properties they choose.
// Nothing here needs a CUDA header, so everything that decides is built and tested everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/no_copy.h"

namespace preserve {

using GpuAddress = uint64_t;  // in device memory; 0 is none

struct GpuFacts {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  std::string uuid;
  int ordinal = 0;
  int compute_major = 0, compute_minor = 0;
  std::string driver;                       // "580.159.04"; empty: not known
  int driver_cuda = 0;                      // newest CUDA that the driver speaks, as 13000
  int runtime_cuda = 0;                     // CUDA that this was built with
  int sms = 0;                              // streaming multiprocessors
  int64_t l2_bytes = 0;                     // nominal
  int64_t persisting_l2_max_bytes = 0;      // largest set-aside; 0: none can be chosen
  int64_t persisting_l2_default_bytes = 0;  // set-aside that was found at the start
  int64_t memory_bytes = 0, free_bytes = 0;
  double host_link_bytes_per_s = 0;  // 0: not known
  int64_t timer_tick_ns = 0;         // of the timer that all times come from; 0: not known
  bool mig = false;                  // a slice of a GPU
};

// What the GPU does at this moment besides our own work. From NVML; empty without it.
struct GpuState {
  std::optional<int> sm_clock_mhz, memory_clock_mhz, temperature_c;
  // How busy it was when state() was first called, before work of ours that would count as well.
  std::optional<int> utilisation_percent;
  std::vector<int64_t> other_pids;  // processes that compute on it, without this one
  std::string throttle;  // why the clocks are held down, as "power cap"; empty: they are not
};

struct GpuRange {
  GpuAddress address = 0;  // 16-byte aligned
  int64_t bytes = 0;       // multiple of 16
};

inline constexpr const char* kNothingTold =
    "the driver's management library (NVML) tells nothing here, so other processes on the GPU and "
    "held-down clocks went unnoticed";
inline bool tells_nothing(const GpuState& state) {
  return !state.sm_clock_mhz && !state.utilisation_percent && state.other_pids.empty();
}

// Above it the GPU is not ours alone; a desktop's drawing stays below.
inline constexpr int kBusyPercent = 10;

// How bytes are prefetched. Words as in device.json.
enum class GpuFetch { bulk_l2, prefetch_l2, load };
inline constexpr std::string_view kGpuFetchWords[] = {"bulk_l2", "prefetch_l2", "load"};
enum class GpuEviction { normal, last };
inline constexpr std::string_view kGpuEvictionWords[] = {"normal", "last"};
// Element types of a matrix product's weights and activations.
enum class GpuElement { fp16, bf16, fp8, int8 };
inline constexpr std::string_view kGpuElementWords[] = {"fp16", "bf16", "fp8", "int8"};

enum class GpuNodeKind {
  // Streams `ranges` through all its CTAs and sums what it read; then stores to `writes` what is
  // there already. Without ranges: a wait.
  read,
  prefetch,    // brings `ranges` into L2; no stores; ends when all requests are issued
  stand_in,    // occupies `ctas` for `hold_ns` and until `link_bytes` have gone to host memory
  chase,       // `hops` dependent loads along a chain (make_chain): a latency-bound kernel
  gemm,        // cuBLASLt: activations (m x k) by weights (n x k) at ranges[0]
  collective,  // NCCL, after join(): `function` on `message_bytes`
};

struct GpuNode {
  GpuNodeKind kind = GpuNodeKind::read;
  int op = -1;  // slot that its time goes into; several nodes may share one; -1: none
  std::vector<int> after = {};  // earlier nodes that it waits for
  // Begins when every block of after[0] has begun, instead of ended (launch-order edge).
  bool with_start_of = false;
  int ctas = 0;     // 0: as many as fill the device (read), or one (chase)
  int sm_half = 0;  // 1 or 2: only on SMs of that half of a split L2 (sm_halves()); 0: any
  std::vector<GpuRange> ranges = {};
  // read: the i-th byte of a range is taken from its first `wrap_bytes` again and again, which stay
  // cached. Multiple of kGpuPatternBytes; 0: every byte from its own place.
  int64_t wrap_bytes = 0;
  std::vector<GpuRange> writes = {};
  // Held inside the kernel: before its work begins and after it is done. 0 for gemm and collective.
  int64_t wait_before_ns = 0, wait_after_ns = 0;
  GpuFetch fetch = GpuFetch::bulk_l2;
  GpuEviction eviction = GpuEviction::normal;
  int64_t chunk_bytes = 0;  // per request of a prefetch
  int64_t hold_ns = 0, link_bytes = 0;
  int64_t hops = 0;
  int64_t m = 0, n = 0, k = 0;
  GpuElement element = GpuElement::fp16;
  std::string function = {};
  int64_t message_bytes = 0;
  int stream = 0;  // only where the nodes are launched one by one: 0 main, 1 side
};

struct GpuGraph {
  std::vector<GpuNode> nodes;  // each after those that it waits for
  int ops = 0;                 // slots: 0 <= GpuNode::op < ops
  bool as_graph = true;        // one CUDA graph; false: launched one by one into two streams
};

struct GpuRun {
  double step_ns = 0;    // mean time of one execution on the device, back to back
  double launch_ns = 0;  // mean time that launching one took on the host
  // Per slot, means: from the first start to the last end of its nodes, and the start since the
  // beginning of the step's first node. A node starts when it has waited for wait_before_ns and
  // ends when it has waited for wait_after_ns. Of gemm and collective nodes, which cannot be looked
  // into, the interval between their neighbours.
  std::vector<double> op_ns, op_start_ns;
  uint64_t checksum = 0;  // sum over all 32-bit words that read nodes took, per execution
};

// Every byte of device memory is gpu_pattern_word of its offset within its allocation, modulo this.
inline constexpr int64_t kGpuPatternBytes = 4096;
// The 32-bit word at `offset`, a multiple of 4.
constexpr uint32_t gpu_pattern_word(uint64_t offset) {
  return static_cast<uint32_t>(offset % kGpuPatternBytes / 4) * 2654435761U;
}

// Throws Error: input_error for what the machine lacks (naming it), internal_error for a failing
// call (naming call and error).
class GpuDevice : NoCopy {
 public:
  virtual ~GpuDevice() = default;

  virtual const GpuFacts& facts() const = 0;
  virtual GpuState state() = 0;

  // Filled with the pattern, 4096-byte aligned, freed with this object. input_error saying how much
  // was asked for and how much is free.
  virtual GpuAddress allocate(int64_t bytes) = 0;
  // Links the cache lines of [address, address + bytes) into one random cycle for chase nodes. They
  // no longer hold the pattern.
  virtual void make_chain(GpuAddress address, int64_t bytes, uint64_t seed) = 0;

  // Prepares a graph; the number returned is for run(). The same graph can be run for ever. Carries
  // out each collective once: all ranks add graphs with the same collectives in the same order.
  virtual int add(const GpuGraph& graph) = 0;
  // Gives back what add() took, for graphs that are not needed any more.
  virtual void drop(int graph) = 0;
  // Executes it `times` times back to back and waits.
  virtual GpuRun run(int graph, int times) = 0;

  // Size of the persisting set-aside (nothing: what was found at the start); lines that were
  // persisting become normal ones.
  virtual void set_persisting_l2(std::optional<int64_t> bytes) = 0;
  // A fixed piece of arithmetic on one SM: its time is the clock's.
  virtual int64_t probe_clock_ns() = 0;
  // By SM: 1 or 2, the half of L2 that it is nearer to; empty where L2 is not split. Measured once.
  virtual const std::vector<int>& sm_halves() = 0;

  // NCCL. The id is made by one rank and given to all. input_error when NCCL is missing.
  virtual std::string make_collective_id() = 0;
  virtual void join(const std::string& id, int rank, int ranks) = 0;
  // True when gemm nodes of these types can run here (cuBLASLt found, supported by the device).
  virtual bool can_multiply(GpuElement element) = 0;
};

// The CUDA device with that ordinal. input_error, saying what is missing and what to do, where this
// was built without CUDA, no driver or no device is there, the driver is too old.
std::unique_ptr<GpuDevice> open_cuda_device(int ordinal);

// CUDA devices that this process may use; 0 where open_cuda_device() would say what is missing.
int count_cuda_devices();

}  // namespace preserve
