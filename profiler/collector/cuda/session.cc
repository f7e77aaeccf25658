// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/session.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <iterator>
#include <utility>

#include "profiler/collector/bounded_lock.h"
#include "profiler/collector/cuda/thread_record.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/spool_file.h"
#include "profiler/collector/ticks.h"

namespace preserve::cuda {
namespace {

using collector::lock_in_time;

constexpr int kClockTries = 100;
constexpr size_t kChunkBytes = size_t{256} << 10;
constexpr uint32_t kMaxNotes = 64;  // of one process

int64_t read_clock(clockid_t id) {
  timespec now{};
  ::clock_gettime(id, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Inside the capture range.
constexpr ActivityKind kKinds[] = {{CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, "kernels", true},
                                   {CUPTI_ACTIVITY_KIND_MEMCPY, "copies"},
                                   {CUPTI_ACTIVITY_KIND_MEMCPY2, "copies between devices"},
                                   {CUPTI_ACTIVITY_KIND_MEMSET, "fills"},
                                   {CUPTI_ACTIVITY_KIND_SYNCHRONIZATION, "waits"},
                                   {CUPTI_ACTIVITY_KIND_OVERHEAD, "its own overhead"},
                                   {CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, "external ids"}};

uint32_t version_of(const CuptiApi& api) {
  uint32_t version = 0;
  return api.get_version != nullptr && api.get_version(&version) == CUPTI_SUCCESS ? version : 0;
}

}  // namespace

// CUPTI's buffer callbacks carry no user data; one session per process at a time.
std::atomic<Session*> Session::current_{nullptr};

Session::Session(const CuptiApi& api, const SessionOptions& options)
    : api_(api),
      options_(options),
      callbacks_(api, options.parameters, options.counters != 0),
      counters_(api, options.counters, options.complain),
      decoder_(version_of(api)),
      version_(version_of(api)) {}

void Session::forget() {
  current_.store(nullptr, std::memory_order_release);
}

bool Session::enable(const ActivityKind& kind) {
  const CUptiResult result = api_.activity_enable(kind.kind);
  if (result == CUPTI_SUCCESS) return true;
  char what[64];
  ::snprintf(what, sizeof(what), "CUPTI does not record %s", kind.name);
  if (kind.needed) return degrade(what, result);
  note(what, result);
  return true;
}

// The GPU writes its own records. Only an initialised driver can be asked, and only before there is
// a context; without it CUPTI goes on as it does elsewhere.
void Session::start_hardware_trace() {
  hardware_trace_asked_.store(true, std::memory_order_relaxed);
  const CUptiResult result =
      api_.hw_trace == nullptr ? CUPTI_ERROR_NOT_SUPPORTED : api_.hw_trace(1);
  if (result != CUPTI_SUCCESS) note("no hardware trace", result);
}

void Session::set_recording(bool on) {
  pthread_mutex_lock(&recording_mutex_);
  const State before = state();
  if (on && before == State::armed) {
    bool good = true;
    for (const ActivityKind& kind : kKinds) good = good && (counters_.wanted() || enable(kind));
    if (good && state() == State::armed) {
      callbacks_.recording.store(true, std::memory_order_relaxed);
      counters_.set_measuring(true);
      enter(State::recording);
    }
  } else if (!on && before == State::recording) {
    callbacks_.recording.store(false, std::memory_order_relaxed);
    counters_.set_measuring(false);
    for (const ActivityKind& kind : kKinds) (void)api_.activity_disable(kind.kind);
    enter(State::armed);
  }
  pthread_mutex_unlock(&recording_mutex_);
}

void Session::tick() {
  const State now = state();
  if (now != State::armed && now != State::recording) return;
  if (options_.range.kind() == CaptureRange::Kind::time) {
    const int64_t elapsed_ms = (monotonic_ns() - started_ns_) / 1'000'000;
    set_recording(options_.range.records_after(elapsed_ms));
  }
  flush();
  record_clock();
  collector::wake_writer();
}

// CUPTI's own periodic flush returns full buffers only; this returns every finished one. Not while
// the recording ends: after stop() CUPTI may be gone. Of CUPTI's callbacks only those of API calls
// may do it: what a context has recorded is fetched as the call begins that ends it.
void Session::flush() {
  if (counters_.wanted() || !lock_in_time(flush_mutex_)) return;
  const State now = state();
  if (now == State::armed || now == State::recording) (void)api_.flush_all(0);
  pthread_mutex_unlock(&flush_mutex_);
}

int64_t Session::next_tick_ms() const {
  const auto period = static_cast<int64_t>(options_.flush_ms);
  const int64_t elapsed_ms = (monotonic_ns() - started_ns_) / 1'000'000;
  const int64_t change = options_.range.next_change_ms(elapsed_ms);
  return change >= 0 && change < period ? change : period;
}

// Kinds stay enabled: disabling them may take locks that the program holds, and nothing that CUPTI
// still writes is read.
void Session::stop() {
  const bool switching_ended = lock_in_time(recording_mutex_);
  State before = state();
  const bool runs = (before == State::armed || before == State::recording) &&
                    state_.compare_exchange_strong(before, State::draining);
  if (runs) {
    callbacks_.recording.store(false, std::memory_order_relaxed);
    enter(State::draining);
  }
  if (switching_ended) pthread_mutex_unlock(&recording_mutex_);
  if (!runs) return;
  if (options_.hardware_trace && !hardware_trace_asked_.load(std::memory_order_relaxed)) {
    note("no hardware trace: the driver never reported that it is ready", CUPTI_ERROR_NOT_READY);
  }
  counters_.stop();
  if (lock_in_time(flush_mutex_)) {
    (void)api_.flush_all(0);
    (void)api_.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    pthread_mutex_unlock(&flush_mutex_);
  }
  record_clock();
  pool_.close();
  enter(State::drained);
  collector::flush_now();
}

// The first watched range records until it closes: of its thread where it was pushed, anywhere
// where it was started. Others that open meanwhile change nothing.
void Session::on_range(const collector::RangeEvent& event) {
  using Event = collector::RangeEvent;
  static __thread uint32_t thread __attribute__((tls_model("initial-exec"))) = 0;
  if (thread == 0) thread = static_cast<uint32_t>(::gettid());
  if ((event.kind == Event::push || event.kind == Event::pop) && range_owner_.is_thread(thread)) {
    if (event.kind == Event::push) {
      ++range_depth_;
    } else if (--range_depth_ == 0) {
      set_recording(false);
      range_owner_.release();
    }
    return;
  }
  if (event.kind == Event::end) {
    if (!range_owner_.end_started(event.id)) return;
    set_recording(false);
    range_owner_.release();
    return;
  }
  if (event.kind == Event::pop || !options_.range.watches_ranges() ||
      !options_.range.watches(event.name) || !options_.range.records(ranges_seen_.fetch_add(1))) {
    return;
  }
  // Its end may come on another thread only after its start has returned.
  if (event.kind == Event::start ? !range_owner_.take_started(event.id)
                                 : !range_owner_.take_thread(thread)) {
    return;
  }
  range_depth_ = 1;
  set_recording(true);
}

void Session::on_callback(void* self, CUpti_CallbackDomain domain, CUpti_CallbackId cbid,
                          const void* data) {
  auto* session = static_cast<Session*>(self);
  const State now = session->state();
  if (data != nullptr && domain == CUPTI_CB_DOMAIN_DRIVER_API) {
    // In every state: what was begun at the entry is to be ended.
    const auto& call = *static_cast<const CUpti_CallbackData*>(data);
    if (call.callbackSite == CUPTI_API_EXIT) {
      session->counters_.after(session->callbacks_.kind(cbid), call);
    }
  }
  if (data == nullptr || now == State::draining || now == State::drained || now == State::degraded)
    return;
  switch (domain) {
    case CUPTI_CB_DOMAIN_DRIVER_API: {
      const auto& call = *static_cast<const CUpti_CallbackData*>(data);
      const CallKind kind = session->callbacks_.kind(cbid);
      if (kind == CallKind::profiler_start || kind == CallKind::profiler_stop) {
        if (session->options_.range.kind() == CaptureRange::Kind::profiler &&
            call.callbackSite == CUPTI_API_EXIT) {
          session->set_recording(kind == CallKind::profiler_start);
        }
        return;
      }
      if (kind == CallKind::context_end) {
        if (call.callbackSite == CUPTI_API_ENTER) session->flush();
        return;
      }
      // What is measured is recorded first, and its counters after it.
      session->callbacks_.on_driver(cbid, call);
      if (call.callbackSite == CUPTI_API_ENTER) session->counters_.before(kind, call);
      return;
    }
    case CUPTI_CB_DOMAIN_RUNTIME_API:
      return session->callbacks_.on_runtime(*static_cast<const CUpti_CallbackData*>(data));
    case CUPTI_CB_DOMAIN_RESOURCE:
      if (cbid == CUPTI_CBID_RESOURCE_CU_INIT_FINISHED) {
        if (session->options_.hardware_trace) session->start_hardware_trace();
        return;
      }
      if (cbid == CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING) {
        session->counters_.on_context_destroyed(
            static_cast<const CUpti_ResourceData*>(data)->context);
      }
      return session->callbacks_.on_resource(cbid, *static_cast<const CUpti_ResourceData*>(data));
    case CUPTI_CB_DOMAIN_STATE:
      return session->on_state(cbid, *static_cast<const CUpti_StateData*>(data));
    default:
      return;
  }
}

void Session::on_state(uint32_t cbid, const CUpti_StateData& data) {
  const char* message = data.notification.message == nullptr ? "" : data.notification.message;
  if (cbid == CUPTI_CBID_STATE_FATAL_ERROR) {  // CUPTI takes itself down now
    callbacks_.recording.store(false, std::memory_order_relaxed);
    char why[200];
    ::snprintf(why, sizeof(why), "CUPTI gave up: %s", message);
    degrade(why, data.notification.result);
  } else {
    note(message, data.notification.result);
  }
}

void Session::on_buffer_requested(uint8_t** buffer, size_t* bytes, size_t* max_records) {
  Session* session = current_.load(std::memory_order_acquire);
  *max_records = 0;
  *buffer = session == nullptr ? nullptr : session->pool_.acquire();
  *bytes = *buffer == nullptr ? 0 : session->pool_.buffer_bytes();
}

void Session::on_buffer_completed(CUcontext, uint32_t, uint8_t* buffer, size_t,
                                  size_t valid_bytes) {
  Session* session = current_.load(std::memory_order_acquire);
  if (session == nullptr || buffer == nullptr) return;
  session->pool_.complete(buffer, valid_bytes);
  collector::wake_writer();
}

namespace {
alignas(8) char chunk[kChunkBytes];  // one writer thread
}  // namespace

// Where the file keeps the newest records, an older half takes its names and counts along.
void Session::enter_half(uint32_t half) {
  if (half == half_) return;
  for (; half_ != half; ++half_) {
    const Counts gone = std::exchange(said_[0], std::exchange(said_[1], {}));
    for (size_t i = 0; i < std::size(gone.lost); ++i) unsaid_.lost[i] += gone.lost[i];
    unsaid_.at(LossPlace::overwritten) += gone.written;
  }
  decoder_.forget_names();
  setup_is_due_ = true;
}

// Only before a record: a new half gives up an old one.
void Session::begin_chunk() {
  operators_ = decoder_.operators();
  chunk_bytes_ = collector::chunk_bytes(kChunkBytes);
  enter_half(collector::half_for(chunk_bytes_));
  used_ = 0;
  if (!setup_is_due_) return;
  std::memcpy(chunk, setup_, setup_bytes_);
  used_ = setup_bytes_;
  setup_is_due_ = false;
}

void Session::end_chunk(collector::SpoolFile& file) {
  const uint64_t operators = decoder_.operators() - operators_;
  if (used_ == 0) return;
  if (file.write_chunk({}, chunk, used_, nullptr, 0)) {
    said_[1].written += operators;
  } else {
    unsaid_.at(LossPlace::spool) += operators;
    decoder_.forget_names();
    setup_is_due_ = true;
  }
}

void Session::say_again(const void* record, const char* written, size_t bytes) {
  const CUpti_ActivityKind kind = static_cast<const CUpti_Activity*>(record)->kind;
  if (kind != CUPTI_ACTIVITY_KIND_DEVICE && kind != CUPTI_ACTIVITY_KIND_CONTEXT) return;
  if (setup_bytes_ + bytes > sizeof(setup_)) return;
  std::memcpy(setup_ + setup_bytes_, written, bytes);
  setup_bytes_ += bytes;
}

void Session::write(collector::SpoolFile& file) {
  enter_half(collector::half_for(0));
  bool begun = false;
  pool_.drain([&](uint8_t* buffer, size_t valid_bytes) {
    CUpti_Activity* record = nullptr;
    CUptiResult result = CUPTI_SUCCESS;
    while ((result = api_.next_record(buffer, valid_bytes, &record)) == CUPTI_SUCCESS) {
      if (!begun || used_ + ActivityDecoder::kMaxBytes > chunk_bytes_) {
        if (begun) end_chunk(file);
        begin_chunk();
        begun = true;
      }
      const size_t bytes = decoder_.decode(record, chunk + used_);
      say_again(record, chunk + used_, bytes);
      used_ += bytes;
    }
    // CUPTI itself cannot read on; how much was left is unknown.
    unsaid_.at(LossPlace::unreadable) += result != CUPTI_ERROR_MAX_LIMIT_REACHED;
  });
  if (begun) end_chunk(file);
  size_t dropped = 0;
  const State now = state();
  const bool alive = now == State::armed || now == State::recording || now == State::draining;
  if (alive && api_.dropped_records(nullptr, 0, &dropped) != CUPTI_SUCCESS) dropped = 0;
  unsaid_.at(LossPlace::cupti) += dropped;
  unsaid_.at(LossPlace::discarded) += pool_.take_discarded();
  unsaid_.at(LossPlace::unknown_kind) += decoder_.unknown_kinds() - unknown_reported_;
  unsaid_.at(LossPlace::counter_ranges) += counters_.take_dropped();
  unsaid_.at(LossPlace::counter_failed) += counters_.take_failed();
  unsaid_.at(LossPlace::counter_skipped) += counters_.take_skipped();
  unknown_reported_ = decoder_.unknown_kinds();
  for (uint32_t i = 0; i < std::size(unsaid_.lost); ++i) {
    const LostBody lost{std::exchange(unsaid_.lost[i], 0), static_cast<LossPlace>(i), 0};
    if (lost.count == 0) continue;
    said_[1].lost[i] += lost.count;
    // Beside the records, which a full file does not take.
    file.add_control(static_cast<spool::RecordType>(RecordType::lost), &lost, sizeof(lost));
  }
}

bool Session::degrade(const char* what, CUptiResult result) {
  ::snprintf(reason_, sizeof(reason_), "%s (%s, %d)", what, api_.text(result),
             static_cast<int>(result));
  enter(State::degraded, result, reason_);
  return false;
}

// Something differs from what was asked for, with the reason.
void Session::note(const char* what, CUptiResult result) {
  if (notes_.fetch_add(1, std::memory_order_relaxed) >= kMaxNotes) return;
  char text[200];
  ::snprintf(text, sizeof(text), "%s (%s, %d)", what, api_.text(result), static_cast<int>(result));
  record_on_thread(RecordType::state, StateBody{State::noted, static_cast<int32_t>(result)}, text);
}

void Session::enter(State state, CUptiResult result, const char* why) {
  state_.store(state, std::memory_order_release);
  const StateBody body{state, static_cast<int32_t>(result)};
  record_on_thread(RecordType::state, body, why);
}

// What CUPTI writes into its records when it has no callback: CLOCK_REALTIME nearly everywhere, but
// only CUPTI itself knows.
int64_t Session::cupti_clock() const {
  uint64_t time = 0;
  const bool known = clock_ == ActivityClock::realtime && api_.get_timestamp != nullptr &&
                     api_.get_timestamp(&time) == CUPTI_SUCCESS && time != 0;
  return known ? static_cast<int64_t>(time) : read_clock(CLOCK_REALTIME);
}

// One moment on all clocks; of many tries the one with the least time in between.
void Session::record_clock() {
  ClockBody best{0, 0, INT64_MAX, clock_, version_};
  for (int i = 0; i < kClockTries; ++i) {
    const int64_t before = read_clock(CLOCK_MONOTONIC);
    const int64_t realtime = cupti_clock();
    const int64_t gap = read_clock(CLOCK_MONOTONIC) - before;
    if (gap < best.gap_ns) best = {before + gap / 2, realtime, gap, clock_, version_};
  }
  record_on_thread(RecordType::clock, best);
}

}  // namespace preserve::cuda
