// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/activity.h"

#include <cupti.h>
// The structs of earlier CUPTI versions, which are prefixes of the current ones.
#include <cupti_activity_deprecated.h>

#include <cstring>
#include <string_view>

namespace preserve::cuda {
namespace {

// API versions from cupti_version.h: v13 is CUDA 11.0, v14 11.1, v15 11.2, v17 11.6, v18 11.8,
// v19 12.0, v20 12.2; 13.0 and later count 130000 and up.
constexpr uint32_t kCuda110 = 13, kCuda111 = 14, kCuda112 = 15, kCuda116 = 17, kCuda118 = 18,
                   kCuda120 = 19, kCuda122 = 20, kCuda130 = 130000;

uint8_t kernel_generation(uint32_t version) {
  if (version >= kCuda130) return 10;
  if (version >= kCuda120) return 9;
  if (version >= kCuda118) return 8;
  if (version >= kCuda116) return 7;
  if (version >= kCuda112) return 6;
  return version >= kCuda110 ? 5 : 4;
}

// The layouts that prefix reading relies on.
static_assert(offsetof(CUpti_ActivityKernel5, graphNodeId) == sizeof(CUpti_ActivityKernel4));
static_assert(offsetof(CUpti_ActivityKernel10, graphNodeId) ==
              offsetof(CUpti_ActivityKernel5, graphNodeId));
static_assert(offsetof(CUpti_ActivityKernel10, channelID) ==
              offsetof(CUpti_ActivityKernel7, channelID));
static_assert(offsetof(CUpti_ActivityKernel10, name) == offsetof(CUpti_ActivityKernel4, name));
static_assert(offsetof(CUpti_ActivityMemcpy6, graphNodeId) ==
              offsetof(CUpti_ActivityMemcpy3, graphNodeId));
static_assert(offsetof(CUpti_ActivityMemcpy6, graphId) == offsetof(CUpti_ActivityMemcpy4, graphId));
static_assert(offsetof(CUpti_ActivityMemset4, graphNodeId) ==
              offsetof(CUpti_ActivityMemset2, graphNodeId));
static_assert(offsetof(CUpti_ActivityMemory4, memoryPoolConfig) ==
              offsetof(CUpti_ActivityMemory2, memoryPoolConfig));
static_assert(offsetof(CUpti_ActivityOverhead3, start) == offsetof(CUpti_ActivityOverhead, start));

struct Hash {
  uint64_t a, b;
};
// Two 64-bit products over 8-byte words: fast, and 128 bits make a false match a non-event.
Hash hash_of(const char* text, size_t bytes) {
  uint64_t a = 0x9e3779b97f4a7c15u ^ bytes, b = 0xc2b2ae3d27d4eb4fu + bytes;
  while (bytes > 0) {
    uint64_t word = 0;
    const size_t part = bytes < 8 ? bytes : 8;
    std::memcpy(&word, text, part);
    a = (a ^ word) * 0xff51afd7ed558ccdu;
    a ^= a >> 32;
    b = (b + word) * 0x9fb21c651e98df25u;
    b ^= b >> 29;
    text += part;
    bytes -= part;
  }
  return {a | 1, b};  // 0 marks a free slot
}

template <typename Record>
const Record& as(const void* record) {
  return *static_cast<const Record*>(record);
}

template <typename Record>
void set_times(const Record& from, int64_t& start_ns, int64_t& end_ns) {
  start_ns = static_cast<int64_t>(from.start);
  end_ns = static_cast<int64_t>(from.end);
}

template <typename Record>
Place place_of(const Record& from) {
  Place place{};
  place.device = from.deviceId;
  place.context = from.contextId;
  place.stream = from.streamId;
  place.correlation = from.correlationId;
  return place;
}

template <typename WithNode, typename WithGraph, typename WithChannel>
void set_graph(Place& place, const void* record, const Generation& generation) {
  if (generation.graph_node) place.graph_node = as<WithNode>(record).graphNodeId;
  if (generation.graph_id) place.graph = as<WithGraph>(record).graphId;
  if (generation.channel) place.channel = as<WithChannel>(record).channelID;
}

CopyKind copy_kind(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOA:
      return CopyKind::to_device;
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOH:
      return CopyKind::from_device;
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOA:
    case CUPTI_ACTIVITY_MEMCPY_KIND_ATOD:
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOA:
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return CopyKind::on_device;
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOH:
      return CopyKind::on_host;
    case CUPTI_ACTIVITY_MEMCPY_KIND_PTOP:
      return CopyKind::peer;
    default:
      return CopyKind::unknown;
  }
}

// What copies and fills have in common. With...: the first generations of `Record` that have it.
template <typename Record, typename WithNode, typename WithGraph, typename WithChannel>
CopyBody copy_body(const void* record, const Generation& generation, CopyKind kind) {
  const auto& from = as<Record>(record);
  CopyBody body{};
  set_times(from, body.start_ns, body.end_ns);
  body.place = place_of(from);
  set_graph<WithNode, WithGraph, WithChannel>(body.place, record, generation);
  body.bytes = static_cast<int64_t>(from.bytes);
  body.kind = kind;
  body.source_device = body.target_device = from.deviceId;
  return body;
}

// One record without a blob; returns its bytes.
template <typename Body>
size_t write(char* out, RecordType type, const Body& body, std::string_view text = {}) {
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(body) + spool::padded(text.size());
  const spool::RecordHeader header{static_cast<uint16_t>(bytes / 8),
                                   static_cast<uint16_t>(text.size()),
                                   static_cast<spool::RecordType>(type),
                                   0,
                                   0,
                                   0};
  std::memcpy(out, &header, sizeof(header));
  std::memcpy(out + sizeof(header), &body, sizeof(body));
  if (text.empty()) return bytes;
  std::memset(out + bytes - 8, 0, 8);
  std::memcpy(out + sizeof(header) + sizeof(body), text.data(), text.size());
  return bytes;
}

}  // namespace

Generation::Generation(uint32_t cupti_version)
    : kernel(kernel_generation(cupti_version)),
      graph_node(cupti_version >= kCuda110),
      graph_id(cupti_version >= kCuda111),
      channel(cupti_version >= kCuda116),
      overhead_correlation(cupti_version >= kCuda122) {}

ActivityDecoder::ActivityDecoder(uint32_t cupti_version)
    : generation_(cupti_version),
      names_(static_cast<Name*>(std::calloc(kNames, sizeof(Name))), std::free) {}

void ActivityDecoder::forget_names() {
  if (names_) std::memset(static_cast<void*>(names_.get()), 0, kNames * sizeof(Name));
  names_used_ = 0;
}

// Number of a name; writes its definition to `out` when it is new. 0 for no name.
uint32_t ActivityDecoder::intern(const char* text, char*& out) {
  if (text == nullptr) return 0;
  const size_t bytes = ::strnlen(text, spool::kMaxTextBytes);
  const Hash hash = hash_of(text, bytes);
  Name* slot = nullptr;
  if (names_) {
    for (size_t i = hash.a & (kNames - 1);; i = (i + 1) & (kNames - 1)) {
      if (names_[i].hash == hash.a && names_[i].check == hash.b) return names_[i].id;
      if (names_[i].hash == 0) {
        if (names_used_ < kNames / 2) slot = &names_[i];
        break;
      }
    }
  }
  const NameBody body{++last_id_, 0};
  out += write(out, RecordType::name, body, {text, bytes});
  if (slot != nullptr) {
    *slot = {hash.a, hash.b, body.id};
    ++names_used_;
  }
  return body.id;
}

size_t ActivityDecoder::decode(const void* record, char* out) {
  switch (as<CUpti_Activity>(record).kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      ++operators_;
      return kernel(record, out);
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      ++operators_;
      const CopyKind kind = copy_kind(as<CUpti_ActivityMemcpy>(record).copyKind);
      return write(out, RecordType::copy,
                   copy_body<CUpti_ActivityMemcpy, CUpti_ActivityMemcpy3, CUpti_ActivityMemcpy4,
                             CUpti_ActivityMemcpy5>(record, generation_, kind));
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY2: {
      ++operators_;
      CopyBody body =
          copy_body<CUpti_ActivityMemcpyPtoP, CUpti_ActivityMemcpyPtoP2, CUpti_ActivityMemcpyPtoP3,
                    CUpti_ActivityMemcpyPtoP4>(record, generation_, CopyKind::peer);
      body.source_device = as<CUpti_ActivityMemcpyPtoP>(record).srcDeviceId;
      body.target_device = as<CUpti_ActivityMemcpyPtoP>(record).dstDeviceId;
      return write(out, RecordType::copy, body);
    }
    case CUPTI_ACTIVITY_KIND_MEMSET:
      ++operators_;
      return write(out, RecordType::copy,
                   copy_body<CUpti_ActivityMemset, CUpti_ActivityMemset2, CUpti_ActivityMemset3,
                             CUpti_ActivityMemset4>(record, generation_, CopyKind::fill));
    case CUPTI_ACTIVITY_KIND_MEMORY2:
      return memory(record, out);
    case CUPTI_ACTIVITY_KIND_MEMORY_POOL: {
      const auto& from = as<CUpti_ActivityMemoryPool>(record);
      const PoolBody body{static_cast<int64_t>(from.timestamp), from.address,
                          static_cast<int64_t>(from.size), from.deviceId,
                          static_cast<uint32_t>(from.memoryPoolOperationType)};
      return write(out, RecordType::pool, body);
    }
    case CUPTI_ACTIVITY_KIND_GRAPH_TRACE: {
      ++operators_;
      const auto& from = as<CUpti_ActivityGraphTrace>(record);
      GraphBody body{};
      set_times(from, body.start_ns, body.end_ns);
      body.place = place_of(from);
      body.place.graph = from.graphId;
      return write(out, RecordType::graph, body);
    }
    case CUPTI_ACTIVITY_KIND_OVERHEAD: {
      const auto& from = as<CUpti_ActivityOverhead>(record);
      OverheadBody body{0, 0, static_cast<uint32_t>(from.overheadKind), 0};
      set_times(from, body.start_ns, body.end_ns);
      if (generation_.overhead_correlation) {
        body.correlation = as<CUpti_ActivityOverhead2>(record).correlationId;
      }
      return write(out, RecordType::overhead, body);
    }
    case CUPTI_ACTIVITY_KIND_DEVICE:
      return device(record, out);
    case CUPTI_ACTIVITY_KIND_CONTEXT: {
      const auto& from = as<CUpti_ActivityContext>(record);
      return write(out, RecordType::context, ContextBody{from.contextId, from.deviceId});
    }
    case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION: {
      const auto& from = as<CUpti_ActivitySynchronization>(record);
      SynchronizeBody body{0,
                           0,
                           static_cast<uint32_t>(from.type),
                           from.correlationId,
                           from.contextId,
                           from.streamId};
      set_times(from, body.start_ns, body.end_ns);
      return write(out, RecordType::synchronize, body);
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto& from = as<CUpti_ActivityExternalCorrelation>(record);
      const ExternalBody body{from.externalId, static_cast<uint32_t>(from.externalKind),
                              from.correlationId};
      return write(out, RecordType::external, body);
    }
    case CUPTI_ACTIVITY_KIND_CUDA_EVENT:
      return 0;  // comes with synchronization before CUDA 12.9, asked for or not
    default:
      ++unknown_kinds_;
      return 0;
  }
}

size_t ActivityDecoder::kernel(const void* record, char* out) {
  const auto& from = as<CUpti_ActivityKernel4>(record);
  char* end = out;
  KernelBody body{};
  set_times(from, body.start_ns, body.end_ns);
  body.place = place_of(from);
  set_graph<CUpti_ActivityKernel5, CUpti_ActivityKernel5, CUpti_ActivityKernel7>(body.place, record,
                                                                                 generation_);
  body.name = intern(from.name, end);
  body.grid[0] = static_cast<uint32_t>(from.gridX);
  body.grid[1] = static_cast<uint32_t>(from.gridY);
  body.grid[2] = static_cast<uint32_t>(from.gridZ);
  body.block[0] = static_cast<uint32_t>(from.blockX);
  body.block[1] = static_cast<uint32_t>(from.blockY);
  body.block[2] = static_cast<uint32_t>(from.blockZ);
  body.generation = generation_.kernel;
  if (generation_.kernel >= 10 && as<CUpti_ActivityKernel10>(record).isDeviceLaunched != 0) {
    body.flags = kDeviceLaunched;
  }
  return static_cast<size_t>(end - out) + write(end, RecordType::kernel, body);
}

size_t ActivityDecoder::memory(const void* record, char* out) {
  const auto& from = as<CUpti_ActivityMemory2>(record);
  MemoryBody body{};
  body.time_ns = static_cast<int64_t>(from.timestamp);
  body.address = from.address;
  body.bytes = static_cast<int64_t>(from.bytes);
  body.device = from.deviceId;
  body.context = from.contextId;
  body.stream = from.streamId;
  body.correlation = from.correlationId;
  body.memory = static_cast<uint8_t>(from.memoryKind);
  body.release = from.memoryOperationType == CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE;
  body.async = from.isAsync != 0;
  if (from.memoryPoolConfig.memoryPoolType != CUPTI_ACTIVITY_MEMORY_POOL_TYPE_INVALID) {
    body.pool = from.memoryPoolConfig.address;
  }
  return write(out, RecordType::memory, body);
}

size_t ActivityDecoder::device(const void* record, char* out) {
  // Device2 (CUDA 7.0) is the oldest layout that still occurs.
  const auto& from = as<CUpti_ActivityDevice2>(record);
  DeviceBody body{};
  body.id = from.id;
  body.units = from.numMultiprocessors;
  body.memory_bytes = static_cast<int64_t>(from.globalMemorySize);
  body.cache_bytes = static_cast<int64_t>(from.l2CacheSize);
  body.bandwidth_bytes_per_s = static_cast<int64_t>(from.globalMemoryBandwidth) * 1000;  // KB/s
  body.major = from.computeCapabilityMajor;
  body.minor = from.computeCapabilityMinor;
  const size_t text_bytes = from.name == nullptr ? 0 : ::strnlen(from.name, 256);
  return write(out, RecordType::device, body, {from.name, text_bytes});
}

}  // namespace preserve::cuda
