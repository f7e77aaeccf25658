// SPDX-License-Identifier: Apache-2.0
// The arm of each launch, and what follows from the times.
#include <algorithm>
#include <cstddef>
#include <iterator>

#include "apply/library/cuda/session.h"

namespace preserve::apply {
namespace {

constexpr double kNsPerMs = 1e6;

}  // namespace

// Events belong to one context, which must be the calling thread's.
bool GraphSession::make_hot(Executable& executable) {
  Context& context = *executable.context;
  if (current_context() != &context) return false;
  for (size_t i = 0; i < kMostPending; ++i) {
    if (context.end[i] != nullptr) continue;
    if (!ok(driver_.create_event(&context.begin[i], CU_EVENT_DEFAULT)) ||
        !ok(driver_.create_event(&context.end[i], CU_EVENT_DEFAULT))) {
      return false;
    }
  }
  hot_ = &executable;
  header_.graphs.disables = executable.graph != nullptr ? 1 : 0;
  ++header_.locks;
  header_.locked_ns = clock_();
  update_state();
  return true;
}

bool GraphSession::set_switch(Context& context, CUstream stream, bool applied) {
  if (context.applied == applied || context.kernel.applied == 0) return true;
  if (!ok(driver_.write_value(stream, context.kernel.applied, applied ? 1 : 0,
                              CU_STREAM_WRITE_VALUE_DEFAULT))) {
    return false;
  }
  context.applied = applied;
  context.fetched = context.fetched || applied;
  return true;
}

// Before what is launched into `stream` next: fetches of others may go on until they come by such
// a write. `again`: what is launched may fetch from freed memory, so that it needs its own.
void GraphSession::end_fetches(Context& context, CUstream stream, bool again) {
  if (!context.fetched || (context.ended && !again)) return;
  // One that fails is tried again at the next launch.
  context.ended =
      ok(driver_.write_value(stream, context.kernel.applied + offsetof(PrefetchSwitch, ended), 1,
                             CU_STREAM_WRITE_VALUE_DEFAULT)) ||
      context.ended;
}

bool GraphSession::must_look() const {
  return std::any_of(std::begin(contexts_), std::end(contexts_),
                     [&](const Context& context) {
                       return context.fetched &&
                              (context.unfollowed || (is_off() && !context.ended));
                     }) ||
         std::any_of(std::begin(executables_), std::end(executables_),
                     [](const Executable& executable) {
                       return executable.handle != nullptr && executable.stale;
                     });
}

bool GraphSession::launching(CUgraphExec executable, CUstream stream) {
  const bool looks = must_look_.load(std::memory_order_relaxed);
  const Lock lock(*this, looks);
  if (!lock.taken()) return false;
  if (looks) must_look_.store(must_look(), std::memory_order_relaxed);
  Executable* known = executable == nullptr ? nullptr : find(executable);
  Context* context = known != nullptr ? known->context : looks ? current_context() : nullptr;
  if (context == nullptr || (known == nullptr && !context->unfollowed)) return false;
  const Uncaptured uncaptured(driver_);
  CUstreamCaptureStatus capture{};
  if (!ok(uncaptured.result())) return false;
  const CUresult asked = driver_.is_capturing(stream, &capture);
  // The legacy stream cannot be asked while others are captured.
  if (asked == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return false;
  if (!ok(asked)) return false;
  if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
    if (known == nullptr) return false;
    ++header_.graphs.refused[static_cast<size_t>(Refusal::capturing)];
    leave_unfollowed(context, Off::copied);
    return false;
  }
  if (known == nullptr) {
    end_fetches(*context, stream, true);
    return false;
  }
  collect();
  ++known->launches;
  if (known->stale) turn_off(Off::memory_gone);
  if (!is_off() && hot_ == nullptr && known->launches >= kHotLaunches) make_hot(*known);
  if (is_off()) {
    end_fetches(*context, stream, known->stale || context->unfollowed);
    return false;
  }
  if (hot_ != known) {
    if (hot_ != nullptr) (void)set_switch(*context, stream, applied_);
    return false;
  }
  if (lost_ && pending_count_ == 0) lose();
  if (lost_ || pending_count_ == kMostPending) {
    lost_ = true;
    ++header_.graphs.unpaired;
    return false;
  }
  const Arm arm =
      place_of(next_step_, guard_.decision(), plan_.header().mode, plan_.header().control_every)
          .arm;
  return begin(*known, stream, arm);
}

bool GraphSession::begin(Executable& executable, CUstream stream, Arm arm) {
  const uint32_t place = (oldest_ + pending_count_) % kMostPending;
  pending_[place] = arm;
  applied_ = arm == Arm::applied;
  disable(executable, arm == Arm::original);
  if (executable.graph == nullptr) header_.graphs.disables = 0;
  return !is_off() && set_switch(*executable.context, stream, applied_) &&
         ok(driver_.record_event(executable.context->begin[place], stream));
}

void GraphSession::launched(CUgraphExec executable, CUstream stream, bool done) {
  const Lock lock(*this);
  if (is_off() || hot_ == nullptr || hot_->handle != executable) {
    lost_ = true;
    return;
  }
  const Uncaptured uncaptured(driver_);
  const uint32_t place = (oldest_ + pending_count_) % kMostPending;
  if (!done || !ok(driver_.record_event(hot_->context->end[place], stream))) {
    lost_ = true;
    return;
  }
  ++pending_count_;
  ++next_step_;
}

// The times of the launches that are over, in order.
void GraphSession::collect() {
  while (hot_ != nullptr && pending_count_ > 0 && !is_off()) {
    const Context& context = *hot_->context;
    const CUresult over = driver_.query_event(context.end[oldest_]);
    if (over == CUDA_ERROR_NOT_READY) return;
    float ms = 0;
    if (!ok(over) || !ok(driver_.elapsed_ms(&ms, context.begin[oldest_], context.end[oldest_]))) {
      return;
    }
    const Arm arm = pending_[oldest_];
    oldest_ = (oldest_ + 1) % kMostPending;
    --pending_count_;
    end_step(arm, ms * kNsPerMs, hot_->fetched_bytes);
  }
}

void GraphSession::end_step(Arm arm, double dur_ns, uint64_t fetched_bytes) {
  if (lost_) return;
  if (guard_.begin() != arm) {  // a decision that does not wait has changed the arms ahead
    lost_ = true;
    return;
  }
  const uint32_t step = guard_.step();
  const Guard::Ended ended = guard_.end(dur_ns, 0);
  if (header_.samples < samples_.size()) {
    samples_[header_.samples] = {static_cast<uint64_t>(dur_ns), step, arm, 0, 0};
  }
  ++header_.samples;
  if (arm == Arm::applied) {
    ++window_.opened;
    window_.fetched_bytes += fetched_bytes;
    header_.fetched_bytes += fetched_bytes;
  }
  for (size_t i = 0; i < kArms; ++i) {
    header_.steps[i] = guard_.steps()[i];
    header_.disturbed[i] = guard_.disturbed()[i];
  }
  if (ended.pair) {
    for (uint64_t i = header_.samples - kPairSteps; i < header_.samples; ++i) {
      if (i < samples_.size()) samples_[i].counted = 1;
    }
    header_.null = guard_.null();
    header_.applied = guard_.applied();
    header_.control = guard_.control();
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
  if (guard_.is_off()) return turn_off(decision.off);
  if (decision.state == State::on && decision.from_step <= guard_.step()) {
    header_.state = State::on;
    header_.off_step = decision.from_step;
  } else if (!is_off()) {
    header_.state = State::measuring;
  }
}

}  // namespace preserve::apply
