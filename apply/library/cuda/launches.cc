// SPDX-License-Identifier: Apache-2.0
// The arm of each launch, and what follows from the times.

#include "apply/library/cuda/session.h"

namespace preserve::apply {
namespace {

constexpr double kNsPerMs = 1e6;

}  // namespace

bool GraphSession::launching(CUgraphExec executable, CUstream stream) {
  const bool looks = must_look_.load(std::memory_order_relaxed);
  const CUcontext current = looks ? current_context() : nullptr;
  Executable* known = nullptr;
  Context* context = nullptr;
  {
    const Lock lock(*this, looks);
    if (!lock.taken()) return false;
    if (looks) must_look_.store(must_look(), std::memory_order_relaxed);
    known = executable == nullptr ? nullptr : find(executable);
    context = known != nullptr ? known->context : current != nullptr ? find(current) : nullptr;
    if (context == nullptr || (known == nullptr && !context->unfollowed)) return false;
  }
  const Uncaptured uncaptured(driver_);
  CUstreamCaptureStatus capture{};
  if (!ok(uncaptured.result())) return false;
  const CUresult asked = driver_.is_capturing(stream, &capture);
  // The legacy stream cannot be asked while others are captured.
  if (asked == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return false;
  if (!ok(asked)) return false;
  if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
    if (known == nullptr) return false;
    const Lock lock(*this);
    (void)refuse(Refusal::capturing);
    leave_unfollowed(context, Off::copied);
    return false;
  }
  if (known == nullptr) {
    end_fetches(*context, stream, true);
    return false;
  }
  return launching(*known, *context, stream);
}

bool GraphSession::launching(Executable& known, Context& context, CUstream stream) {
  enum class Way : uint8_t { off, measured, followed, alone } way = Way::alone;
  bool again = false, first = false;
  {
    const Lock lock(*this);
    ++known.launches;
    if (known.stale) set_off(Off::memory_gone);
    again = known.stale || context.unfollowed;
    first = hot_ == nullptr && known.launches >= kHotLaunches && !known.retired;
    if (is_off()) {
      way = Way::off;
    } else if (launching_ == nullptr && (first || hot_ == &known)) {
      way = Way::measured;
      launching_ = hot_ = &known;
    } else if (hot_ == &known) {  // another thread is at it
      lost_ = true;
      ++header_.graphs.unpaired;
    } else if (hot_ != nullptr) {
      way = Way::followed;
    }
  }
  if (way == Way::measured) return measure(known, context, stream, first);
  if (way == Way::off) end_fetches(context, stream, again);
  if (way == Way::followed) (void)follow_arm(context, stream, {});
  return false;
}

// Events belong to one context, which must be the calling thread's.
bool GraphSession::make_events(Context& context) {
  if (current_context() != context.kernel.context) return false;
  for (size_t i = 0; i < kMostPending; ++i) {
    if (context.end[i] != nullptr) continue;
    if (!ok(driver_.create_event(&context.begin[i], CU_EVENT_DEFAULT)) ||
        !ok(driver_.create_event(&context.end[i], CU_EVENT_DEFAULT))) {
      return false;
    }
  }
  return true;
}

// Who comes here has `launching_`, and with it events and pending launches, alone.
bool GraphSession::measure(Executable& executable, Context& context, CUstream stream, bool first) {
  const bool ready = !first || make_events(context);
  if (ready) collect(executable, context);
  uint32_t place = 0;
  Arm arm = Arm::original;
  bool goes_on = false, again = false;
  {
    const Lock lock(*this);
    again = executable.stale || context.unfollowed;
    if (!ready && hot_ == &executable) hot_ = nullptr;
    goes_on = hot_ == &executable && !is_off();
    if (!goes_on) {
      launching_ = nullptr;
    } else {
      if (first) locked(executable);
      if (executable.graph == nullptr) header_.graphs.disables = 0;
      if (lost_ && pending_count_ == 0) lose();
      measuring_ = !lost_ && pending_count_ < kMostPending;
      if (!measuring_) {
        lost_ = true;
        ++header_.graphs.unpaired;
        return true;
      }
      place = (oldest_ + pending_count_) % kMostPending;
      arm = arm_of(next_step_);
      pending_[place] = arm;
    }
  }
  if (goes_on) return begin(executable, context, stream, place, arm);
  if (is_off()) end_fetches(context, stream, again);
  return false;
}

Arm GraphSession::arm_of(uint32_t step) const {
  return place_of(step, guard_.decision(), plan_.header().mode, plan_.header().control_every).arm;
}

void GraphSession::locked(const Executable& executable) {
  header_.graphs.disables = executable.graph != nullptr ? 1 : 0;
  ++header_.locks;
  header_.locked_ns = clock_();
  update_state();
}

bool GraphSession::begin(Executable& executable, Context& context, CUstream stream, uint32_t place,
                         Arm arm) {
  const bool named = disable(executable, arm == Arm::original, false);
  if (named && follow_arm(context, stream, arm == Arm::applied) && !is_off() &&
      ok(driver_.record_event(context.begin[place], stream))) {
    return true;
  }
  const Lock lock(*this);
  if (!named) ++header_.graphs.unpaired;
  lost_ = true;
  launching_ = nullptr;
  measuring_ = false;
  return false;
}

void GraphSession::launched(CUgraphExec executable, CUstream stream, bool done) {
  CUevent end = nullptr;
  Executable* enabled = nullptr;
  {
    const Lock lock(*this);
    if (measuring_ && done && !is_off() && hot_ != nullptr && hot_ == launching_ &&
        hot_->handle == executable) {
      end = hot_->context->end[(oldest_ + pending_count_) % kMostPending];
      // The sooner, the less likely is it that the template goes before.
      if (arm_of(next_step_ + 1) != Arm::original) enabled = hot_;
    }
  }
  bool recorded = false;
  if (end != nullptr) {
    const Uncaptured uncaptured(driver_);
    recorded = ok(driver_.record_event(end, stream));
    if (recorded && enabled != nullptr) (void)disable(*enabled, false, false);
  }
  const Lock lock(*this);
  if (recorded && hot_ != nullptr && hot_ == launching_) {
    ++pending_count_;
    ++next_step_;
  } else if (measuring_) {
    lost_ = true;
  }
  launching_ = nullptr;
  measuring_ = false;
}

// The times of the launches that are over, in order.
void GraphSession::collect(Executable& executable, Context& context) {
  while (!is_off()) {
    CUevent begin = nullptr, end = nullptr;
    {
      const Lock lock(*this);
      if (hot_ != &executable || pending_count_ == 0) return;
      begin = context.begin[oldest_], end = context.end[oldest_];
    }
    const CUresult over = driver_.query_event(end);
    if (over == CUDA_ERROR_NOT_READY) return;
    float ms = 0;
    if (!ok(over) || !ok(driver_.elapsed_ms(&ms, begin, end))) return;
    const Lock lock(*this);
    if (hot_ != &executable || pending_count_ == 0) return;
    const Arm arm = pending_[oldest_];
    oldest_ = (oldest_ + 1) % kMostPending;
    --pending_count_;
    end_step(arm, ms * kNsPerMs, executable.fetched_bytes);
  }
}

// --- with the lock: what follows from the times --------------------------------------------------

void GraphSession::end_step(Arm arm, double dur_ns, uint64_t fetched_bytes) {
  if (lost_) return;
  if (guard_.begin() != arm) {  // a decision that does not wait has changed the arms ahead
    lost_ = true;
    return;
  }
  const Guard::Ended ended = apply::end_step(guard_, arm, dur_ns, 0, header_, samples_);
  if (arm == Arm::applied) {
    ++window_.opened;
    window_.fetched_bytes += fetched_bytes;
    header_.fetched_bytes += fetched_bytes;
  }
  if (ended.decision) header_.decided_ns = clock_();
  update_state();
}

// The pair that was begun does not count, and the next launch begins another one.
void GraphSession::lose() {
  guard_.lose();
  next_step_ = guard_.step();
  lost_ = false;
}

void GraphSession::update_state() {
  const Decision& decision = guard_.decision();
  if (guard_.is_off()) return set_off(decision.off);
  if (decision.state == State::on && decision.from_step <= guard_.step()) {
    header_.state = State::on;
    header_.off_step = decision.from_step;
  } else if (!is_off()) {
    header_.state = State::measuring;
  }
}

}  // namespace preserve::apply
