// SPDX-License-Identifier: Apache-2.0
#include "hooks/cuda/nccl_plugin.h"

#include <atomic>

#include "hooks/listener.h"

namespace preserve::hooks::nccl {
namespace {

// A context is a slot that stays valid for ever: events may come after its communicator was
// finalised. Communicators beyond the last share it and lose their number.
constexpr uint32_t kCommunicators = 1024;
uint64_t communicators[kCommunicators] = {};
std::atomic<uint32_t> used{0};

void* add_communicator(uint64_t id, const char* name, int nodes, int ranks, int rank) {
  const uint32_t slot = used.fetch_add(1, std::memory_order_relaxed);
  listener::nccl_communicator({id, name == nullptr ? "" : name, nodes, ranks, rank});
  if (slot + 1 >= kCommunicators) return &communicators[kCommunicators - 1];
  communicators[slot] = id;
  return &communicators[slot];
}
uint64_t communicator_of(const void* context) {
  return context == nullptr ? 0 : *static_cast<const uint64_t*>(context);
}

void report(const CollectiveV5& call, uint64_t communicator, uint8_t version) {
  listener::nccl_call({call.function, call.datatype, call.algorithm, call.protocol, communicator,
                       call.sequence, call.count, call.send, call.receive, -1, call.channels, false,
                       version});
}
void report(const PointToPointV5& call, uint64_t communicator, uint8_t version) {
  listener::nccl_call({call.function, call.datatype, nullptr, nullptr, communicator, 0, call.count,
                       call.buffer, nullptr, call.peer, 0, true, version});
}

// No handle: nothing more is reported of an event.
template <typename Event>
int start(void* context, void** handle, Event* event) {
  if (handle != nullptr) *handle = nullptr;
  if (event == nullptr) return kSuccess;
  constexpr uint8_t kVersion = sizeof(event->type) == 8 ? 5 : 4;
  if (event->type == kCollective) report(event->collective, communicator_of(context), kVersion);
  if (event->type == kPointToPoint)
    report(event->point_to_point, communicator_of(context), kVersion);
  return kSuccess;
}
int start_v3(void*, void** handle, EventV3* event) {
  if (handle != nullptr) *handle = nullptr;
  if (event == nullptr) return kSuccess;
  if (event->type == kCollective) report(event->collective.call, event->collective.communicator, 3);
  if (event->type == kPointToPoint) {
    report(event->point_to_point.call, event->point_to_point.communicator, 3);
  }
  return kSuccess;
}
int stop(void*) {
  return kSuccess;
}
int record_state(void*, int, void*) {
  return kSuccess;
}
int finalize(void*) {
  return kSuccess;
}

int wanted(int* mask) {
  if (mask != nullptr) {
    *mask = listener::nccl_wanted() ? static_cast<int>(kCollective | kPointToPoint) : 0;
  }
  return kSuccess;
}
int init_v5(void** context, uint64_t communicator, int* mask, const char* name, int nodes,
            int ranks, int rank, Log) {
  if (context != nullptr) *context = add_communicator(communicator, name, nodes, ranks, rank);
  return wanted(mask);
}
int init_v4(void** context, int* mask, const char* name, uint64_t communicator, int nodes,
            int ranks, int rank, Log log) {
  return init_v5(context, communicator, mask, name, nodes, ranks, rank, log);
}
int init_v3(void** context, int* mask) {
  if (context != nullptr) *context = nullptr;
  return wanted(mask);
}

}  // namespace
}  // namespace preserve::hooks::nccl

#define PRESERVE_NCCL_EXPORT extern "C" __attribute__((visibility("default"))) const
PRESERVE_NCCL_EXPORT preserve::hooks::nccl::TableV5 ncclProfiler_v5;
PRESERVE_NCCL_EXPORT preserve::hooks::nccl::TableV4 ncclProfiler_v4;
PRESERVE_NCCL_EXPORT preserve::hooks::nccl::TableV3 ncclProfiler_v3;

using namespace preserve::hooks::nccl;
const TableV5 ncclProfiler_v5{"preserve", init_v5, start<EventV5>, stop, record_state, finalize};
const TableV4 ncclProfiler_v4{"preserve", init_v4, start<EventV4>, stop, record_state, finalize};
const TableV3 ncclProfiler_v3{"preserve", init_v3, start_v3, stop, record_state, finalize};
