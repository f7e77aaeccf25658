// SPDX-License-Identifier: Apache-2.0
// Spool records of CUDA programs, between the collector (CUPTI callbacks and activity buffers,
// NCCL's profiler interface) and the converter. No CUPTI types: an activity record of any CUPTI
// generation becomes one of these, so the converter runs where no CUDA is installed.
//
// A record is spool::RecordHeader, one body, text, blob. Records of a thread (launch, node, memory
// map, collective) carry ticks and stand between that thread's NVTX records, which is how a launch
// knows its ranges. Activity records come from the writer thread in any order; their times are ns
// on the activity clock that the last ClockBody names. Types are part of the spool format: append
// only.
#pragma once

#include <cstdint>

namespace preserve::cuda {

// Continues spool::RecordType, from a number far after its end.
enum class RecordType : uint8_t {
  first = 64,
  kernel = 64,    // KernelBody
  copy,           // CopyBody: copies and fills
  synchronize,    // SynchronizeBody
  memory,         // MemoryBody
  pool,           // PoolBody
  overhead,       // OverheadBody
  external,       // ExternalBody
  graph,          // GraphBody: one launch of a whole graph
  device,         // DeviceBody, text: name
  context,        // ContextBody
  name,           // NameBody, text: the name of a number in other records
  lost,           // LostBody
  clock,          // ClockBody
  state,          // StateBody, text: why
  launch,         // LaunchBody, blob: parameters; on the thread that launched
  function,       // FunctionBody, text: name, blob: ParameterLayout[count]
  node,           // NodeBody
  mapping,        // MappingBody
  tensor_map,     // TensorMapBody
  communicator,   // CommunicatorBody, text: name
  collective,     // CollectiveBody, text: function NUL type NUL algorithm NUL protocol NUL
  counter_setup,  // CounterSetupBody, text: chip NUL why not NUL
  counters,       // CounterBody, blob: double[count][kCounters]; after the launch that it is of
  executable,     // ExecutableBody; after the nodes that were cloned for it
  count_,
};
constexpr bool is_cuda_record(uint8_t type) {
  return type >= static_cast<uint8_t>(RecordType::first) &&
         type < static_cast<uint8_t>(RecordType::count_);
}

// Where an activity ran and which call started it. 0 as graph or node: not from a graph.
struct Place {
  uint32_t device, context, stream, correlation;
  uint64_t graph_node;
  uint32_t graph;
  uint32_t channel;
};

struct KernelBody {
  int64_t start_ns, end_ns;  // both 0: CUPTI had no time stamps
  Place place;
  uint32_t name;  // NameBody
  uint32_t grid[3];
  uint32_t block[3];
  uint8_t generation;  // CUpti_ActivityKernel<n> that the record was read as
  uint8_t flags;       // kDeviceLaunched
  uint16_t reserved;
};
inline constexpr uint8_t kDeviceLaunched = 1;

enum class CopyKind : uint8_t { unknown, to_device, from_device, on_device, on_host, peer, fill };
struct CopyBody {
  int64_t start_ns, end_ns;
  Place place;
  int64_t bytes;
  CopyKind kind;
  uint8_t reserved[3];
  uint32_t source_device, target_device;  // of peer copies
  uint32_t reserved2;
};

struct SynchronizeBody {
  int64_t start_ns, end_ns;
  uint32_t type;  // CUpti_ActivitySynchronizationType
  uint32_t correlation, context, stream;
};

struct MemoryBody {
  int64_t time_ns;
  uint64_t address;
  int64_t bytes;
  uint64_t pool;  // address of its pool, 0 none
  uint32_t device, context, stream, correlation;
  uint32_t reserved2;
  uint8_t memory;   // CUpti_ActivityMemoryKind
  uint8_t release;  // 1: released, 0: allocated
  uint8_t async;
  uint8_t reserved;
};

struct PoolBody {
  int64_t time_ns;
  uint64_t address;
  int64_t bytes;
  uint32_t device;
  uint32_t operation;  // 1 created, 2 destroyed, 3 trimmed
};

struct OverheadBody {
  int64_t start_ns, end_ns;
  uint32_t kind;  // CUpti_ActivityOverheadKind
  uint32_t correlation;
};

struct ExternalBody {
  uint64_t id;
  uint32_t kind, correlation;
};

struct GraphBody {
  int64_t start_ns, end_ns;
  Place place;
};

struct DeviceBody {
  uint32_t id, units;
  int64_t memory_bytes, cache_bytes, bandwidth_bytes_per_s;
  uint32_t major, minor;  // compute capability
};

struct ContextBody {
  uint32_t context, device;
};

struct NameBody {
  uint32_t id, reserved;
};

enum class LossPlace : uint32_t {
  cupti,           // CUPTI dropped them: device buffers full, or no host buffer in time
  discarded,       // our pool was empty: the buffer went nowhere; counts buffers, not records
  unreadable,      // CUPTI could not read on in a buffer: one for the first record and all after it
  unknown_kind,    // kinds that were not asked for
  spool,           // the spool file could not take them
  counter_ranges,  // kernels of a graph for which CUPTI's counter image had no room
  counter_failed,  // launches whose counters could not be read
  counter_skipped,  // launches that were not measured because they wait for another rank
  overwritten,      // records that were in the file and gave way to newer ones
  count_,
};
struct LostBody {
  uint64_t count;  // since the last record of this place
  LossPlace place;
  uint32_t reserved;
};

enum class ActivityClock : uint32_t { monotonic, realtime };
struct ClockBody {
  // One moment on all clocks, best of many tries. realtime_ns: of the activity clock when that is
  // not CLOCK_MONOTONIC.
  int64_t monotonic_ns, realtime_ns;
  int64_t gap_ns;  // how long the reading took: its uncertainty
  ActivityClock activity_clock;
  uint32_t cupti_version;
};

enum class State : uint32_t {
  loaded = 1,
  subscribed,
  armed,
  recording,
  draining,
  drained,
  degraded,
  noted,  // no state: something differs from what was asked for: the text
};
struct StateBody {
  State state;
  int32_t result;  // CUptiResult of it
};

enum class LaunchKind : uint8_t {
  kernel,
  graph,
  copy,
  node
};  // node: parameters given to a graph node
struct LaunchBody {
  uint64_t stream;             // handle
  uint64_t function;           // FunctionBody, or the handle of the executable graph
  uint32_t correlation;        // of the driver call
  uint32_t outer_correlation;  // of the runtime call around it, 0 none
  uint32_t context;
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t parameter_bytes;  // of the blob
  LaunchKind kind;
  uint8_t flags;  // kParametersCut
  uint16_t reserved;
  uint32_t reserved2;
};
inline constexpr uint8_t kParametersCut = 1;
inline constexpr uint32_t kMaxParameterBytes = 1024;  // of one launch; more is cut and flagged

struct ParameterLayout {
  uint32_t offset, bytes;
};
struct FunctionBody {
  uint64_t id;
  uint32_t parameters;  // entries of the blob; kUnknownLayout
  uint32_t reserved;
};
inline constexpr uint32_t kUnknownLayout = UINT32_MAX;
inline constexpr uint32_t kMaxParameters = 64;

enum class NodeEvent : uint32_t { created, cloned, updated, destroyed };
struct NodeBody {
  uint64_t node;
  uint64_t original;  // cloned: from which node
  uint32_t graph;
  uint32_t in_launch;  // 1: during the call that the last launch record of the thread reported
  NodeEvent event;
  uint32_t type;  // CUgraphNodeType: 0 kernel, 1 memcpy, 2 memset ...
};

struct MappingBody {
  uint64_t address;
  int64_t bytes;
  uint32_t unmapped;  // 1: the range went away
  uint32_t reserved;
};

inline constexpr uint32_t kMaxTensorMapRank = 5;
struct TensorMapBody {
  uint64_t descriptor[16];  // the 128 bytes that a kernel gets
  uint64_t address;
  uint64_t dims[kMaxTensorMapRank];
  uint64_t strides[kMaxTensorMapRank];  // bytes, of dimensions 1 and up
  uint32_t rank;
  uint32_t element_bytes;
};

struct CommunicatorBody {
  uint64_t id;  // equal on all ranks
  uint32_t ranks, rank;
  uint32_t nodes, reserved;
};

struct CollectiveBody {
  uint64_t communicator;
  uint64_t sequence;       // kNoSequence: not known to the library
  uint64_t count;          // elements
  uint64_t send, receive;  // addresses
  uint64_t stream;         // handle, 0 unknown
  int32_t peer;            // root or peer, -1 none
  uint8_t point_to_point;
  uint8_t channels;
  uint8_t captured;           // during stream capture
  uint8_t interface_version;  // of NCCL's profiler interface
};
inline constexpr uint64_t kNoSequence = UINT64_MAX;

// Hardware counters of a kernel. In trace.db's table `counter` under kCounterNames.
inline constexpr size_t kCounters = 4;
inline constexpr const char* kCounterNames[kCounters] = {"dram_read_bytes", "dram_write_bytes",
                                                         "l2_read_bytes", "l2_write_bytes"};
enum CounterGroup : uint32_t { kDramCounters = 1, kL2Counters = 2 };
constexpr uint32_t counters_of(uint32_t groups) {
  return ((groups & kDramCounters) != 0 ? 3u : 0u) | ((groups & kL2Counters) != 0 ? 12u : 0u);
}

// What is asked for when the recording starts (device kNoDevice), then what each device gives.
struct CounterSetupBody {
  uint32_t groups;    // CounterGroup, as asked for
  uint32_t counters;  // bit i: kCounterNames[i] is read
  uint32_t device;
  int32_t result;  // CUptiResult of a refusal, 0: none
};
inline constexpr uint32_t kNoDevice = UINT32_MAX;

// Counters of `count` kernels of one launch, from the `first` of its `total` on.
struct CounterBody {
  uint32_t correlation, device;
  uint32_t first, count, total;
  uint32_t counters;  // as in CounterSetupBody
};
inline constexpr uint32_t kCountersPerRecord = 32;

// An executable graph. Its nodes are those cloned last on the thread, as far as they are of one
// graph.
struct ExecutableBody {
  uint64_t handle;  // LaunchBody::function of its launches
};

static_assert(sizeof(Place) == 32 && sizeof(KernelBody) == 80 && sizeof(CopyBody) == 72);
static_assert(sizeof(MemoryBody) == 56 && sizeof(LaunchBody) == 64 && sizeof(NodeBody) == 32);
static_assert(sizeof(TensorMapBody) == 224 && sizeof(CollectiveBody) == 56 &&
              sizeof(ClockBody) == 32);
static_assert(sizeof(CounterSetupBody) == 16 && sizeof(CounterBody) == 24);

}  // namespace preserve::cuda
