// SPDX-License-Identifier: Apache-2.0
// The recording of GPU activity in one process, as a state machine:
//
//   loaded -> subscribed -> armed <-> recording -> draining -> drained
//   any -> degraded (no driver, another profiler, fatal error): NVTX and NCCL are still recorded
//
// Armed means that callbacks are on (graphs are captured at start-up and must be known later) and
// activity kinds are off. No error of CUPTI reaches the program: each one means recording less.
//
// With counters (counters.h) no activity is recorded: counting changes every time, and the two are
// not to be mixed.
//
// Threads: start() and stop() are called once; tick() by one thread of ours; write() by the spool's
// writer; everything else by CUPTI on the program's threads. Memory: options.buffers x buffer_bytes
// of activity buffers (default 64 x 2 MiB), 2.3 MB of function layouts, 1.6 MB of names, one chunk.
#pragma once

#include <pthread.h>

#include <atomic>

#include "common/no_copy.h"
#include "profiler/capture_range.h"
#include "profiler/collector/cuda/activity.h"
#include "profiler/collector/cuda/buffer_pool.h"
#include "profiler/collector/cuda/callbacks.h"
#include "profiler/collector/cuda/counters.h"

namespace preserve::collector {
class SpoolFile;
struct RangeEvent;
}  // namespace preserve::collector

namespace preserve::cuda {

// A kind of CUPTI's records, and what they are of.
struct ActivityKind {
  CUpti_ActivityKind kind;
  const char* name;
  bool needed = false;  // without it there is nothing to record
};

struct SessionOptions {
  bool parameters = true;
  bool whole_graphs = false;              // one record per graph launch instead of one per node
  bool hardware_trace = false;            // Blackwell and newer
  uint32_t counters = 0;                  // CounterGroup
  Counters::Complain complain = nullptr;  // gets the reason why there are no counters
  size_t buffers = 64, buffer_bytes = size_t{2} << 20, ready_buffers = 4;
  uint32_t flush_ms = 200;
  CaptureRange range{};
};

class Session : NoCopy {
 public:
  Session(const CuptiApi& api, const SessionOptions& options);
  ~Session() { forget(); }
  // In a forked child: the session is the parent's.
  static void forget();

  // Subscribes and arms, and records at once when the range says so. False: degraded.
  bool start();
  // Every flush period, and when the range changes by time: flush, clocks, counters of losses.
  void tick();
  int64_t next_tick_ms() const;
  // Everything that CUPTI has goes to the spool; afterwards nothing is recorded any more.
  // Idempotent.
  void stop();
  // Writer thread: full buffers become spool records.
  void write(collector::SpoolFile& file);
  // An NVTX range of the program, on the calling thread.
  void on_range(const collector::RangeEvent& event);

  State state() const { return state_.load(std::memory_order_acquire); }
  const char* reason() const { return reason_; }  // of State::degraded
  const BufferPool& buffers() const { return pool_; }
  const SessionOptions& options() const { return options_; }

 private:
  static void on_callback(void* self, CUpti_CallbackDomain domain, CUpti_CallbackId cbid,
                          const void* data);
  static void on_buffer_requested(uint8_t** buffer, size_t* bytes, size_t* max_records);
  static void on_buffer_completed(CUcontext context, uint32_t stream, uint8_t* buffer, size_t bytes,
                                  size_t valid_bytes);
  bool subscribe();
  void set_attributes();
  void register_clock();
  void set_recording(bool on);
  void flush();
  bool enable(const ActivityKind& kind);
  void start_hardware_trace();
  void name_subscriber(char* name, size_t bytes);
  void on_state(uint32_t cbid, const CUpti_StateData& data);
  bool degrade(const char* what, CUptiResult result);
  void note(const char* what, CUptiResult result);
  void enter(State state, CUptiResult result = CUPTI_SUCCESS, const char* why = "");
  int64_t cupti_clock() const;
  void record_clock();

  static std::atomic<Session*> current_;

  const CuptiApi& api_;
  const SessionOptions options_;
  Callbacks callbacks_;
  Counters counters_;
  BufferPool pool_;
  ActivityDecoder decoder_;
  CUpti_SubscriberHandle subscriber_ = nullptr;
  std::atomic<State> state_{State::loaded};
  ActivityClock clock_ = ActivityClock::realtime;
  uint32_t version_ = 0;
  int64_t started_ns_ = 0;
  char reason_[256] = {};
  pthread_mutex_t recording_mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t flush_mutex_ = PTHREAD_MUTEX_INITIALIZER;  // held around flushes of our threads
  std::atomic<uint32_t> notes_{0};
  std::atomic<bool> hardware_trace_asked_{false};
  std::atomic<uint64_t> ranges_seen_{0};
  CaptureOwner range_owner_;
  uint32_t range_depth_ = 0;  // of the thread that owns it

  // Writer thread.
  void enter_half(uint32_t half);
  void begin_chunk();
  void end_chunk(collector::SpoolFile& file);
  void say_again(const void* record, const char* written, size_t bytes);
  uint64_t unknown_reported_ = 0;
  size_t used_ = 0;         // of the chunk
  size_t chunk_bytes_ = 0;  // that it may have
  uint64_t operators_ = 0;  // that the decoder had read when the chunk began
  uint32_t half_ = 0;       // of the file, which takes the chunk
  struct Counts {
    uint64_t written = 0, lost[static_cast<size_t>(LossPlace::count_)] = {};
    uint64_t& at(LossPlace place) { return lost[static_cast<size_t>(place)]; }
  };
  Counts said_[2];  // in the half before that one, and in it
  Counts unsaid_;   // losses; what goes with an older half is said again
  // Devices and contexts, which CUPTI tells of once, for each half of the file, and again after a
  // chunk that it did not take.
  size_t setup_bytes_ = 0;
  bool setup_is_due_ = false;
  alignas(8) char setup_[size_t{16} << 10];
};

}  // namespace preserve::cuda
