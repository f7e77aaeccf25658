// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/counters.h"

#include <stdio.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <new>

#include "common/glob.h"
#include "profiler/collector/bounded_lock.h"
#include "profiler/collector/cuda/thread_record.h"
#include "profiler/communication_kernels.h"

namespace preserve::cuda {
namespace {

using collector::lock_in_time;

constexpr size_t kMaxAvailabilityBytes = size_t{4} << 20;

// The launch of this thread that is being measured.
struct Measured {
  Counters* owner;
  void* context;  // Counters::Context
  void* image;    // Counters::Image
  uint32_t correlation;
};
__thread Measured measured __attribute__((tls_model("initial-exec"))) = {};

bool is_launch(CallKind kind) {
  return kind == CallKind::launch_kernel || kind == CallKind::launch_kernel_ex ||
         kind == CallKind::launch_cooperative || kind == CallKind::launch_graph;
}

CUstream stream_of(CallKind kind, const void* call) {
  switch (kind) {
    case CallKind::launch_graph:
      return static_cast<const cuGraphLaunch_params*>(call)->hStream;
    case CallKind::launch_kernel_ex: {
      const auto* config = static_cast<const cuLaunchKernelEx_params*>(call)->config;
      return config == nullptr ? nullptr : config->hStream;
    }
    default:
      static_assert(offsetof(cuLaunchKernel_params, hStream) ==
                    offsetof(cuLaunchCooperativeKernel_params, hStream));
      return static_cast<const cuLaunchKernel_params*>(call)->hStream;
  }
}

}  // namespace

bool waits_for_other_ranks(std::string_view kernel) {
  // The table says what a kernel is. Here any doubt counts: a kernel that waits and is measured
  // waits for ever.
  constexpr std::string_view kDoubtful[] = {
      "*nccl*", "*rccl*", "*nvshmem*", "*multimem*", "*sendrecv*", "*broadcast_ring*", "*barrier*"};
  char lower[512];  // template arguments go on for kilobytes
  const size_t bytes = std::min(kernel.size(), sizeof(lower));
  std::transform(kernel.begin(), kernel.begin() + static_cast<ptrdiff_t>(bytes), lower, [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  const std::string_view name(lower, bytes);
  const auto matches = [&](std::string_view pattern) { return glob_matches(pattern, name); };
  return std::ranges::any_of(kCommunicationKernels, matches, &CommunicationKernel::pattern) ||
         std::ranges::any_of(kDoubtful, matches);
}

Counters::Counters(const CuptiApi& api, uint32_t groups, Complain complain)
    : api_(api), groups_(groups), complain_(complain) {}

Counters::~Counters() {
  for (size_t i = 0; i < context_count_; ++i) {
    auto& context = *reinterpret_cast<Context*>(memory_ + i * sizeof(Context));
    release(context);
    context.~Context();
  }
}

void Counters::announce() {
  if (!wanted()) return;
  record_on_thread(RecordType::counter_setup, CounterSetupBody{groups_, 0, kNoDevice, 0});
  if (!api_.reads_counters()) {
    refuse("this libcupti cannot read them (CUDA 12.6 Update 2 and newer can)", "", kNoDevice,
           CUPTI_ERROR_API_NOT_IMPLEMENTED);
  }
}

void Counters::stop() {
  set_measuring(false);
  if (wanted() && lock_in_time(mutex_)) pthread_mutex_unlock(&mutex_);
}

void Counters::note_context(CUcontext handle) {
  for (auto& seen : contexts_seen_) {
    CUcontext there = seen.load(std::memory_order_relaxed);
    if (there == nullptr && seen.compare_exchange_strong(there, handle)) return;
    if (there == handle) return;
  }
}

// Whether this launch goes into a graph. A driver that does not say is taken to capture everything
// while anything is captured.
bool Counters::is_captured(CallKind kind, const CUpti_CallbackData& call,
                           bool others_capture) const {
  if (api_.stream_is_capturing == nullptr) return others_capture;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUresult result = api_.stream_is_capturing(stream_of(kind, call.functionParams), &status);
  // The legacy stream may not be asked while others capture; it cannot be captured itself.
  return result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

// Waiting for a kernel here is safe only where the kernel itself waits for nobody. A captured
// communication kernel waits for graphs of other ranks: those of other processes will come, those
// of this process may be launched by this very thread, later.
bool Counters::skips(CallKind kind, const CUpti_CallbackData& call) {
  if (kind == CallKind::launch_graph) {
    return rank_kernel_captured_.load(std::memory_order_relaxed) &&
           contexts_seen_[1].load(std::memory_order_relaxed) != nullptr;
  }
  return call.symbolName != nullptr && waits_for_other_ranks(call.symbolName);
}

void Counters::before(CallKind kind, const CUpti_CallbackData& call) {
  if (!wanted() || measured.owner != nullptr) return;
  if (kind == CallKind::capture_begin) {
    captures_.fetch_add(1, std::memory_order_acq_rel);  // its end counts even if it fails
    return;
  }
  if (!is_launch(kind) || call.functionParams == nullptr) return;
  if (call.context != nullptr) note_context(call.context);
  const bool others_capture = captures_.load(std::memory_order_acquire) > 0;
  if (is_captured(kind, call, others_capture)) {
    if (kind != CallKind::launch_graph && call.symbolName != nullptr &&
        waits_for_other_ranks(call.symbolName)) {
      rank_kernel_captured_.store(true, std::memory_order_relaxed);
    }
    return;
  }
  if (!measuring_.load(std::memory_order_acquire) || refused_.load(std::memory_order_acquire) ||
      call.context == nullptr) {
    return;
  }
  if (others_capture) {  // waiting would spoil what they capture
    failed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (skips(kind, call)) {
    skipped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (!lock_in_time(mutex_)) {
    failed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Context* context =
      measuring_.load(std::memory_order_acquire) ? context_of(call.context) : nullptr;
  Image* image = context == nullptr ? nullptr : image_of(*context, kind);
  if (image != nullptr && start(*context, *image)) {
    measured = {this, context, image, call.correlationId};
    return;
  }
  failed_.fetch_add(1, std::memory_order_relaxed);
  pthread_mutex_unlock(&mutex_);
}

void Counters::after(CallKind kind, const CUpti_CallbackData& call) {
  if (kind == CallKind::capture_end) {
    uint32_t open = captures_.load(std::memory_order_acquire);
    while (open > 0 && !captures_.compare_exchange_weak(open, open - 1)) {
    }
    return;
  }
  if (kind == CallKind::capture_begin) {
    const auto* result = static_cast<const CUresult*>(call.functionReturnValue);
    if (result != nullptr && *result != CUDA_SUCCESS) after(CallKind::capture_end, call);
    return;
  }
  if (measured.owner != this || measured.correlation != call.correlationId) return;
  const Measured done = measured;
  if (!finish(*static_cast<Context*>(done.context), *static_cast<Image*>(done.image),
              done.correlation)) {
    failed_.fetch_add(1, std::memory_order_relaxed);
  }
  measured = {};
  pthread_mutex_unlock(&mutex_);
}

// ---------------------------------------------------------------- one context

Counters::Context* Counters::context_of(CUcontext handle) {
  Context* free_slot = nullptr;
  for (size_t i = 0; i < context_count_; ++i) {
    auto* context = reinterpret_cast<Context*>(memory_ + i * sizeof(Context));
    if (context->handle == handle) return context->profiler == nullptr ? nullptr : context;
    if (context->handle == nullptr) free_slot = context;
  }
  if (free_slot == nullptr) {
    if (context_count_ == kContexts) return nullptr;
    free_slot = new (memory_ + context_count_++ * sizeof(Context)) Context(api_);
  }
  free_slot->handle = handle;
  const char* what = "";
  const CUptiResult result = set_up(*free_slot, what);
  if (result == CUPTI_SUCCESS) return free_slot;
  release(*free_slot);
  free_slot->handle = handle;  // known, and of no use
  return nullptr;
}

CUptiResult Counters::set_up(Context& context, const char*& what) {
  uint32_t device = 0;
  auto chip = PRESERVE_CUPTI_PARAMS(Device_GetChipName);
  auto initialize = PRESERVE_CUPTI_PARAMS(Profiler_Initialize);
  auto enable = PRESERVE_CUPTI_PARAMS(RangeProfiler_Enable);
  what = "the profiler does not start";
  CUptiResult result = api_.profiler_initialize(&initialize);
  if (result == CUPTI_SUCCESS) result = api_.device_id(context.handle, &device);
  if (result == CUPTI_SUCCESS) {
    what = "the chip is not known";
    chip.deviceIndex = device;
    result = api_.chip_name(&chip);
  }
  const char* name = chip.pChipName == nullptr ? "" : chip.pChipName;
  if (result == CUPTI_SUCCESS) {
    what = "this chip has no such counters";
    uint8_t* available = availability(context.handle);
    result = context.metrics.open(name, available, counters_of(groups_));
    std::free(available);
  }
  if (result == CUPTI_SUCCESS) {
    what = "the device refuses";
    enable.ctx = context.handle;
    result = api_.range_enable(&enable);
    context.profiler = enable.pRangeProfilerObject;
  }
  if (result != CUPTI_SUCCESS) {
    refuse(what, name, device, result);
    return result;
  }
  context.device = device;
  char text[80];
  const int bytes = ::snprintf(text, sizeof(text), "%.64s", name);
  record_on_thread(RecordType::counter_setup,
                   CounterSetupBody{groups_, context.metrics.counters(), device, 0},
                   {text, static_cast<size_t>(bytes > 0 ? bytes + 1 : 0)});
  return result;
}

// What this device can count (partitions and virtual GPUs have less); nullptr: not known.
uint8_t* Counters::availability(CUcontext handle) {
  if (api_.counter_availability == nullptr) return nullptr;
  auto params = PRESERVE_CUPTI_PARAMS(Profiler_GetCounterAvailability);
  params.ctx = handle;
  if (api_.counter_availability(&params) != CUPTI_SUCCESS ||
      params.counterAvailabilityImageSize == 0 ||
      params.counterAvailabilityImageSize > kMaxAvailabilityBytes) {
    return nullptr;
  }
  auto* image = static_cast<uint8_t*>(std::calloc(1, params.counterAvailabilityImageSize));
  params.pCounterAvailabilityImage = image;
  if (image != nullptr && api_.counter_availability(&params) == CUPTI_SUCCESS) return image;
  std::free(image);
  return nullptr;
}

// Room for the ranges of a launch, made when first needed; as many ranges as fit kImageBytes.
Counters::Image* Counters::image_of(Context& context, CallKind kind) {
  const bool is_graph = kind == CallKind::launch_graph;
  Image& image = is_graph ? context.graph : context.launch;
  if (image.bytes != nullptr) return &image;
  for (size_t ranges = is_graph ? kGraphRanges : kLaunchRanges; ranges > 0; ranges /= 2) {
    auto size = PRESERVE_CUPTI_PARAMS(RangeProfiler_GetCounterDataSize);
    size.pRangeProfilerObject = context.profiler;
    size.pMetricNames = context.metrics.names();
    size.numMetrics = context.metrics.count();
    size.maxNumOfRanges = ranges;
    size.maxNumRangeTreeNodes = static_cast<uint32_t>(ranges);
    if (api_.range_image_size(&size) != CUPTI_SUCCESS || size.counterDataSize == 0) return nullptr;
    if (size.counterDataSize > kImageBytes) continue;
    image.bytes = static_cast<uint8_t*>(std::calloc(1, size.counterDataSize));
    if (image.bytes == nullptr) return nullptr;
    image.size = size.counterDataSize;
    image.ranges = ranges;
    return &image;
  }
  return nullptr;
}

bool Counters::start(Context& context, Image& image) {
  auto initialize = PRESERVE_CUPTI_PARAMS(RangeProfiler_CounterDataImage_Initialize);
  initialize.pRangeProfilerObject = context.profiler;
  initialize.counterDataSize = image.size;
  initialize.pCounterData = image.bytes;
  auto configure = PRESERVE_CUPTI_PARAMS(RangeProfiler_SetConfig);
  configure.pRangeProfilerObject = context.profiler;
  configure.configSize = context.metrics.config_bytes();
  configure.pConfig = context.metrics.config();
  configure.counterDataImageSize = image.size;
  configure.pCounterDataImage = image.bytes;
  configure.range = CUPTI_AutoRange;
  configure.replayMode = CUPTI_KernelReplay;
  configure.maxRangesPerPass = image.ranges;
  configure.numNestingLevels = 1;
  configure.minNestingLevel = 1;
  configure.targetNestingLevel = 1;
  auto start = PRESERVE_CUPTI_PARAMS(RangeProfiler_Start);
  start.pRangeProfilerObject = context.profiler;
  CUptiResult result = api_.range_image_init(&initialize);
  if (result == CUPTI_SUCCESS) result = api_.range_configure(&configure);
  if (result == CUPTI_SUCCESS) result = api_.range_start(&start);
  if (result == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES ||
      result == CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES) {
    refuse("the device refuses", "", context.device, result);
  }
  return result == CUPTI_SUCCESS;
}

bool Counters::finish(Context& context, Image& image, uint32_t correlation) {
  auto stop = PRESERVE_CUPTI_PARAMS(RangeProfiler_Stop);
  stop.pRangeProfilerObject = context.profiler;
  auto decode = PRESERVE_CUPTI_PARAMS(RangeProfiler_DecodeData);
  decode.pRangeProfilerObject = context.profiler;
  auto info = PRESERVE_CUPTI_PARAMS(RangeProfiler_GetCounterDataInfo);
  info.pCounterDataImage = image.bytes;
  info.counterDataImageSize = image.size;
  if (api_.range_stop(&stop) != CUPTI_SUCCESS || stop.isAllPassSubmitted == 0 ||
      api_.range_decode(&decode) != CUPTI_SUCCESS ||
      api_.range_image_info(&info) != CUPTI_SUCCESS || info.numTotalRanges > image.ranges) {
    return false;
  }
  dropped_.fetch_add(decode.numOfRangeDropped, std::memory_order_relaxed);
  if (info.numTotalRanges == 0) return false;
  write(context, image, correlation, info.numTotalRanges, decode.numOfRangeDropped);
  return true;
}

void Counters::write(const Context& context, const Image& image, uint32_t correlation,
                     size_t ranges, size_t dropped) {
  double values[kCountersPerRecord][kCounters];
  CounterBody body{correlation,
                   context.device,
                   0,
                   0,
                   static_cast<uint32_t>(ranges + dropped),
                   context.metrics.counters()};
  const auto flush = [&] {
    if (body.count > 0) {
      record_on_thread(RecordType::counters, body, {}, values, body.count * sizeof(values[0]));
    }
    body.first += body.count;
    body.count = 0;
  };
  for (size_t range = 0; range < ranges; ++range) {
    // A range without values keeps its place: its successors must not take it.
    (void)context.metrics.evaluate(image.bytes, image.size, range, values[body.count]);
    if (++body.count == kCountersPerRecord) flush();
  }
  flush();
}

void Counters::refuse(const char* what, const char* chip, uint32_t device, CUptiResult result) {
  if (refused_.exchange(true, std::memory_order_acq_rel)) return;
  const bool forbidden = result == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES ||
                         result == CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES;
  char why[400];
  if (forbidden) {
    ::snprintf(why, sizeof(why),
               "the driver allows them to administrators only (%d). Run as root, in a container "
               "with --cap-add SYS_ADMIN, or load the driver with "
               "NVreg_RestrictProfilingToAdminUsers=0",
               static_cast<int>(result));
  } else {
    ::snprintf(why, sizeof(why), "%s (%s%s%s, %d)", what, chip, *chip == '\0' ? "" : ": ",
               api_.text(result), static_cast<int>(result));
  }
  char text[512];
  const int bytes = ::snprintf(text, sizeof(text), "%.64s%c%s", chip, '\0', why);
  record_on_thread(RecordType::counter_setup,
                   CounterSetupBody{groups_, 0, device, static_cast<int32_t>(result)},
                   {text, static_cast<size_t>(bytes > 0 ? bytes + 1 : 0)});
  if (complain_ != nullptr) complain_(why);
}

void Counters::on_context_destroyed(CUcontext handle) {
  if (!wanted() || !lock_in_time(mutex_)) return;
  for (size_t i = 0; i < context_count_; ++i) {
    auto* context = reinterpret_cast<Context*>(memory_ + i * sizeof(Context));
    if (context->handle == handle) release(*context);
  }
  pthread_mutex_unlock(&mutex_);
}

void Counters::release(Context& context) {
  if (context.profiler != nullptr) {
    auto params = PRESERVE_CUPTI_PARAMS(RangeProfiler_Disable);
    params.pRangeProfilerObject = context.profiler;
    (void)api_.range_disable(&params);
  }
  context.profiler = nullptr;
  context.handle = nullptr;
  context.metrics.close();
  for (Image* image : {&context.launch, &context.graph}) {
    std::free(image->bytes);
    *image = Image{};
  }
}

}  // namespace preserve::cuda
