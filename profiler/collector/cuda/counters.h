// SPDX-License-Identifier: Apache-2.0
// Hardware counters per kernel, by CUPTI's range profiler: between the entry and the exit of each
// launch one session of its own, every kernel in it a range (auto range), one pass, so that nothing
// is replayed. A session per launch is slow, but says for certain which launch a range is of. The
// kernels of a graph launch are its ranges, in the order in which they ran.
//
// A kernel that is measured runs alone: the launch waits for it. So nothing is measured that may
// wait for another rank (see skips()), nor while a stream is captured, where waiting is forbidden.
// One launch at a time: a launch that waits too long for its turn runs unmeasured.
//
// before() and after() are called by CUPTI on the program's threads; the rest as Session says.
// Memory: kContexts times two images of at most kImageBytes. Errors mean fewer counters; the first
// refusal by a device is reported through `complain` and ends the measuring.
#pragma once

#include <pthread.h>

#include <atomic>
#include <string_view>

#include "common/no_copy.h"
#include "profiler/collector/cuda/callbacks.h"
#include "profiler/collector/cuda/counter_metrics.h"

namespace preserve::cuda {

// Whether a kernel of this name exchanges data with other ranks while it runs. Errs towards yes:
// what is skipped is counted, what hangs is not.
bool waits_for_other_ranks(std::string_view kernel);

class Counters : NoCopy {
 public:
  static constexpr size_t kContexts = 16;
  static constexpr size_t kImageBytes = size_t{64} << 20;
  static constexpr size_t kLaunchRanges = 4, kGraphRanges = 2048;
  using Complain = void (*)(const char* why);

  // `groups`: CounterGroup. 0: everything below does nothing.
  Counters(const CuptiApi& api, uint32_t groups, Complain complain);
  ~Counters();

  // Says in the spool that this is a recording of counters.
  void announce();
  void set_measuring(bool on) { measuring_.store(on, std::memory_order_release); }
  // Waits for the launch that is being measured, a bounded time; afterwards nothing is.
  void stop();

  void before(CallKind kind, const CUpti_CallbackData& call);
  void after(CallKind kind, const CUpti_CallbackData& call);
  void on_context_destroyed(CUcontext context);

  bool wanted() const { return groups_ != 0; }
  uint64_t take_dropped() { return dropped_.exchange(0, std::memory_order_relaxed); }
  uint64_t take_failed() { return failed_.exchange(0, std::memory_order_relaxed); }
  uint64_t take_skipped() { return skipped_.exchange(0, std::memory_order_relaxed); }

 private:
  struct Image {
    uint8_t* bytes = nullptr;
    size_t size = 0, ranges = 0;
  };
  struct Context {
    explicit Context(const CuptiApi& api) : metrics(api) {}
    CUcontext handle = nullptr;
    CUpti_RangeProfiler_Object* profiler = nullptr;
    CounterMetrics metrics;
    uint32_t device = 0;
    Image launch, graph;
  };

  bool skips(CallKind kind, const CUpti_CallbackData& call);
  void note_context(CUcontext handle);
  bool is_captured(CallKind kind, const CUpti_CallbackData& call, bool others_capture) const;
  Context* context_of(CUcontext handle);
  CUptiResult set_up(Context& context, const char*& what);
  uint8_t* availability(CUcontext handle);
  Image* image_of(Context& context, CallKind kind);
  bool start(Context& context, Image& image);
  bool finish(Context& context, Image& image, uint32_t correlation);
  void write(const Context& context, const Image& image, uint32_t correlation, size_t ranges,
             size_t dropped);
  void refuse(const char* what, const char* chip, uint32_t device, CUptiResult result);
  void release(Context& context);

  const CuptiApi& api_;
  const uint32_t groups_;
  const Complain complain_;
  std::atomic<bool> measuring_{false}, refused_{false};
  std::atomic<uint32_t> captures_{0};
  std::atomic<bool> rank_kernel_captured_{false};
  std::atomic<CUcontext> contexts_seen_[kContexts] = {};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;  // held from before() to after()
  alignas(Context) char memory_[kContexts * sizeof(Context)];
  size_t context_count_ = 0;
  std::atomic<uint64_t> dropped_{0}, failed_{0}, skipped_{0};
};

}  // namespace preserve::cuda
