// SPDX-License-Identifier: Apache-2.0
// How a session begins: what is asked of CUPTI before and while the driver starts, in the order in
// which CUPTI wants it, and what each of its releases is better not asked for.
#include <stdio.h>

#include "profiler/collector/cuda/session.h"
#include "profiler/collector/ticks.h"

namespace preserve::cuda {
namespace {

constexpr char kSubscriberName[] = "preserve";

// From the start to the end. Devices and contexts are reported once, when they appear; parameters
// point into allocations of long ago.
constexpr ActivityKind kLastingKinds[] = {{CUPTI_ACTIVITY_KIND_DEVICE, "devices"},
                                          {CUPTI_ACTIVITY_KIND_CONTEXT, "contexts"},
                                          {CUPTI_ACTIVITY_KIND_MEMORY2, "allocations"},
                                          {CUPTI_ACTIVITY_KIND_MEMORY_POOL, "memory pools"}};
// Graph-level records exclude node-level ones. A graph that was instantiated before they were
// enabled has none, so this is from start to end too; what lies outside the capture range is left
// out when the recording is converted.
constexpr ActivityKind kGraphKind{CUPTI_ACTIVITY_KIND_GRAPH_TRACE, "graph launches", true};

// cupti_version.h. CUPTI 12.6 Update 2 to 13.0 may lose the times of kernels when it is given a
// time stamp callback (release notes of CUDA 13.1, resolved issues).
constexpr uint32_t kCuda126 = 24, kCuda129 = 27, kCuda131 = 130100, kCuda132 = 130200;
bool loses_times_with_callback(uint32_t version) {
  return version >= kCuda126 && version < kCuda131;
}

uint64_t timestamp() {
  return static_cast<uint64_t>(monotonic_ns());
}

}  // namespace

bool Session::start() {
  started_ns_ = monotonic_ns();
  Session* none = nullptr;
  if (!current_.compare_exchange_strong(none, this)) {
    return degrade("another recording of this process is still running",
                   CUPTI_ERROR_INVALID_OPERATION);
  }
  if (!subscribe()) return false;
  set_attributes();
  register_clock();
  if (!pool_.open(options_.buffers, options_.buffer_bytes, options_.ready_buffers,
                  version_ < kCuda129)) {
    return degrade("no memory for activity buffers", CUPTI_ERROR_OUT_OF_MEMORY);
  }
  const CUptiResult registered = api_.register_callbacks(on_buffer_requested, on_buffer_completed);
  if (registered != CUPTI_SUCCESS) return degrade("no activity buffers", registered);
  if (!callbacks_.enable(subscriber_)) return degrade("no callbacks", CUPTI_ERROR_NOT_SUPPORTED);
  record_clock();
  enter(State::armed);
  if (counters_.wanted()) {
    counters_.announce();
  } else {
    for (const ActivityKind& kind : kLastingKinds) (void)enable(kind);
    if (options_.whole_graphs && !enable(kGraphKind)) return false;
  }
  if (options_.range.recording_at_start()) set_recording(true);
  return state() != State::degraded;
}

bool Session::subscribe() {
  char other[128] = {};
  // The first version: from 13.2 on a subscriber of the second one takes part in a CUPTI of several
  // tools, whose functions are others than those used here.
  const CUptiResult result = api_.subscribe(&subscriber_, on_callback, this);
  if (result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED ||
      result == CUPTI_ERROR_MAX_LIMIT_REACHED) {
    name_subscriber(other, sizeof(other));
    char why[200];
    ::snprintf(why, sizeof(why), "another profiler holds CUPTI (%s)",
               other[0] != '\0' ? other : "unnamed");
    return degrade(why, result);
  }
  if (result != CUPTI_SUCCESS) return degrade("CUPTI refuses to start (no NVIDIA driver?)", result);
  enter(State::subscribed);
  return true;
}

// The second version of the same call is refused too, and names the holder.
void Session::name_subscriber(char* name, size_t bytes) {
  if (api_.subscribe_v2 == nullptr || version_ >= kCuda132) return;
  CUpti_SubscriberParams params{};
  params.structSize = CUpti_SubscriberParams_STRUCT_SIZE;
  params.subscriberName = kSubscriberName;
  params.oldSubscriberName = name;
  params.oldSubscriberSize = bytes;
  CUpti_SubscriberHandle unwanted = nullptr;
  if (api_.subscribe_v2(&unwanted, on_callback, this, &params) == CUPTI_SUCCESS) {
    (void)api_.unsubscribe(unwanted);  // it has left in between; nothing of ours is enabled
  }
  name[bytes - 1] = '\0';
}

// All of these are wishes: a CUPTI that does not know one works without.
void Session::set_attributes() {
  const auto set = [this](CUpti_ActivityAttribute attribute, auto value) {
    size_t bytes = sizeof(value);
    (void)api_.set_attribute(attribute, &bytes, &value);
  };
  set(CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, uint8_t{1});
  set(CUPTI_ACTIVITY_ATTR_PER_THREAD_ACTIVITY_BUFFER, uint8_t{0});
  // System thread ids: the default, pthread_self, matches nothing else.
  if (api_.set_thread_id_type != nullptr) {
    (void)api_.set_thread_id_type(CUPTI_ACTIVITY_THREAD_ID_TYPE_SYSTEM);
  }
  // Programs ask in a loop whether something is done: the answer `not yet` is of no use.
  if (api_.all_sync_records != nullptr) (void)api_.all_sync_records(0);
  if (api_.flush_period != nullptr && !counters_.wanted()) {
    (void)api_.flush_period(options_.flush_ms);
  }
}

// Before any kind is enabled. Without it activity times are CLOCK_REALTIME, and the converter
// shifts them.
void Session::register_clock() {
  if (loses_times_with_callback(version_)) return;
  if (api_.register_timestamp != nullptr && api_.register_timestamp(timestamp) == CUPTI_SUCCESS) {
    clock_ = ActivityClock::monotonic;
  }
}

}  // namespace preserve::cuda
