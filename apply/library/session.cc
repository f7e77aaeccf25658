// SPDX-License-Identifier: Apache-2.0
#include "apply/library/session.h"

#include <algorithm>

#include "common/no_copy.h"
#include "hooks/mpi/functions.h"

namespace preserve::apply {

thread_local Fetcher* Session::open_window = nullptr;

// Whoever finds another thread inside goes away. What is done under it takes microseconds.
class Session::Busy : NoCopy {
 public:
  explicit Busy(Session& session)
      : session_(session), taken_(!session.busy_.exchange(true, std::memory_order_acquire)) {}
  ~Busy() {
    if (taken_) session_.busy_.store(false, std::memory_order_release);
  }
  bool taken() const { return taken_; }

 private:
  Session& session_;
  const bool taken_;
};

namespace {

// Of a non-blocking collective with a window: the window and the step, so that a request that stays
// behind opens nothing later.
uint64_t mark_of(uint32_t window, uint32_t step) {
  return uint64_t{step} << 32 | (window + 1);
}
uint32_t window_of(uint64_t mark) {
  return static_cast<uint32_t>(mark) - 1;
}
uint32_t step_of(uint64_t mark) {
  return static_cast<uint32_t>(mark >> 32);
}

// Ranks are less than a step apart where every step has a collective of all of them.
constexpr uint32_t kSettleSteps = 4;

bool is_convertible(const PlanView& plan) {
  const auto all = plan.collectives();
  return std::all_of(all.begin(), all.end(),
                     [&](const PlanCollective& collective) {
                       return collective.ranks == plan.header().ranks &&
                              collective.after_messages != kYes;
                     }) &&
         std::all_of(plan.windows().begin(), plan.windows().end(), [&](const PlanWindow& window) {
           return all[window.collective].function == mpi::kAllreduce;
         });
}

}  // namespace

Session::Session(const Surroundings& around)
    : plan_(around.plan),
      tensors_(around.tensors),
      outcome_(around.outcome),
      board_(around.board),
      clock_(around.clock),
      engine_(around.engine),
      link_latency_ns_(around.plan.header().link_latency_ns),
      wanted_(around.plan.header().via),
      helper_(around.helper),
      recogniser_(around.plan.collectives(), around.memory),
      guard_({around.plan.header().mode, around.plan.header().deadline_pairs,
              around.plan.header().control_every}),
      fetcher_(around.plan, around.tensors, around.clock) {
  outcome_.header->state = State::searching;
  outcome_.header->via = static_cast<uint8_t>(wanted_ == Via::measured ? Via::progress : wanted_);
  alone_ = (wanted_ == Via::measured || wanted_ == Via::convert) && is_convertible(plan_);
  if (outcome_.header->ranks != plan_.header().ranks) {
    turn_off(Off::rank_count, 0);
  } else if (recogniser_.is_ambiguous()) {
    turn_off(Off::ambiguous_step, 0);
  } else if (wanted_ == Via::convert && !alone_) {
    turn_off(Off::not_convertible, 0);
  }
}

bool Session::is_followed(const Collective& collective) {
  if (collective.communicator == 0 || !recogniser_.knows(collective)) {
    return collective.communicator != 0 &&
           collective.communicator == board_.communicator.load(std::memory_order_relaxed);
  }
  if (board_.follow(collective.communicator) == collective.communicator) return true;
  // The step has several communicators. This rank will never be ready, so that no rank converts.
  if (ready_told_) return false;
  const Busy busy(*this);
  if (busy.taken()) stay_unconverted(Off::not_convertible);
  return !alone_;
}

uint64_t Session::began(const Collective& collective, uint32_t thread, bool blocking) {
  if (alone_.load(std::memory_order_relaxed) && !is_followed(collective)) return as_it_is;
  const bool alone = alone_.load(std::memory_order_relaxed);
  const Busy busy(*this);
  if (!busy.taken()) {
    interfered_.store(true, std::memory_order_relaxed);
    return 0;
  }
  ++outcome_.header->collectives;
  if (off_.load(std::memory_order_relaxed)) return 0;
  Collective seen = collective;
  seen.after_messages = !alone && messages_.load(std::memory_order_relaxed);
  if (seen.after_messages) messages_.store(false, std::memory_order_relaxed);
  if (alone) {
    owner_ = thread;
  } else if (thread != owner_ || interfered_.load(std::memory_order_relaxed)) {
    interfered_.store(false, std::memory_order_relaxed);
    if (recogniser_.is_locked()) lose(Surprise::other_thread);
    recogniser_.forget();
    owner_ = thread;
  }
  const Recogniser::Seen found = recogniser_.next(seen);
  if (found.surprise) lose(*found.surprise);
  if (found.locks) lock();
  if (!found.position) return 0;
  if (*found.position == 0) begin_step();
  if ((!running_ && settling_ == 0) || next_window_ == plan_.windows().size() ||
      plan_.windows()[next_window_].collective != *found.position) {
    return 0;
  }
  const uint32_t window = next_window_++;
  if (settling_ > 0) return settling_ == 1 ? probe : note;
  if (arm_ == Arm::original) return as_it_is;
  if (!blocking) return mark_of(window, guard_.step());
  open(window);
  return converts_ ? convert : as_it_is;
}

void Session::lock() {
  ++outcome_.header->locks;
  outcome_.header->locked_ns = clock_();
  if (plan_.header().mode != Mode::original) {
    tensors_.check();
    tensors_.report(outcome_.tensors.data());
    // From the time on that ranks convert, none may stop alone.
    if (plan_.header().mode != Mode::dry_run && !converts_ && !tensors_.any_mapped()) {
      return turn_off(Off::nothing_mapped, guard_.step());
    }
    if (!attached_ && !converts_ && wanted_ != Via::convert) {
      refused_ = engine_.attach();
      if (refused_ != Off::none && !alone_) return turn_off(refused_, guard_.step());
      attached_ = refused_ == Off::none;
    }
    if (alone_ && !converts_) {
      if (!ready_told_.exchange(true)) board_.ready.fetch_add(1);
      settling_ = kSettleSteps;
    }
  }
  if (!asked_) {
    asked_ = true;
    leads_ = board_.lead(static_cast<uint32_t>(outcome_.header->rank));
    if (!leads_) guard_.follow();
    outcome_.header->followed = leads_ ? 0 : 1;
  }
  update_state();
}

// The last of these steps begins after collectives that all ranks have entered, so each knows what
// the others have told before.
void Session::settle() {
  next_window_ = 0;
  if (--settling_ == 1 && board_.ready.load() != plan_.header().ranks) {
    stay_unconverted(Off::not_convertible);
  }
}

void Session::stay_unconverted(Off why) {
  settling_ = 0;
  alone_ = false;
  if (wanted_ == Via::convert) return turn_off(why, guard_.step());
  if (recogniser_.is_locked() && !attached_ && plan_.header().mode != Mode::original) {
    turn_off(refused_, guard_.step());
  }
}

void Session::probed(const Probed& found) {
  settling_ = 0;
  outcome_.header->blocking_ns = found.blocking_ns;
  outcome_.header->converted_ns = found.converted_ns;
  converts_ = found.same_bits && (wanted_ == Via::convert || !found.progress ||
                                  found.converted_ns < found.blocking_ns);
  if (!converts_) return stay_unconverted(found.kinds > 0 ? Off::other_bits : Off::not_convertible);
  outcome_.header->via = static_cast<uint8_t>(Via::convert);
  guard_.agree();
  if (attached_) engine_.detach();
  attached_ = false;
}

void Session::begin_step() {
  const int64_t now_ns = clock_();
  if (running_) end_step(now_ns);
  heed_board();
  running_ = false;
  if (off_.load(std::memory_order_relaxed)) return;
  if (tensors_.has_news()) {
    tensors_.check();
    tensors_.report(outcome_.tensors.data());
  }
  if (settling_ > 0) {
    settle();
    if (settling_ > 0 || off_.load(std::memory_order_relaxed)) return;
  }
  arm_ = guard_.begin();
  step_begin_ns_ = now_ns;
  fetch_ns_ = 0;
  next_window_ = 0;
  running_ = true;
}

void Session::end_step(int64_t now_ns) {
  const Guard::Ended ended =
      apply::end_step(guard_, arm_, static_cast<double>(now_ns - step_begin_ns_), fetch_ns_,
                      *outcome_.header, outcome_.samples);
  if (!ended.decision) return;
  board_.publish(*ended.decision);
  outcome_.header->decided_ns = now_ns;
}

void Session::heed_board() {
  if (const std::optional<Decision> made = board_.read()) guard_.adopt(*made);
  if (converts_ && board_.failed.load(std::memory_order_relaxed)) {
    if (const auto decision = guard_.give_up(Off::inserted_call)) board_.publish(*decision);
  }
  update_state();
}

void Session::update_state() {
  const Decision& decision = guard_.decision();
  OutcomeHeader& header = *outcome_.header;
  if (guard_.is_off()) return turn_off(decision.off, decision.from_step);
  if (!recogniser_.is_locked()) {
    header.state = State::searching;
  } else if (decision.state == State::on && decision.from_step <= guard_.step()) {
    header.state = State::on;
    header.off_step = decision.from_step;
  } else {
    header.state = State::measuring;
  }
}

void Session::turn_off(Off off, uint32_t from_step) {
  OutcomeHeader& header = *outcome_.header;
  header.state = State::off;
  header.off = off;
  header.off_step = from_step;
  if (header.decided_ns == 0) header.decided_ns = clock_();
  off_.store(true, std::memory_order_relaxed);
  running_ = false;
  if (attached_) engine_.detach();
  attached_ = false;
}

void Session::lose(Surprise surprise) {
  ++outcome_.header->surprises[static_cast<size_t>(surprise)];
  if (running_) guard_.lose();
  running_ = false;
  update_state();
}

void Session::open(uint32_t window) {
  if (window_open_.exchange(true, std::memory_order_relaxed)) return;  // on another thread
  window_ = window;
  if (arm_ == Arm::applied) {
    ++outcome_.windows[window].opened;
    if (helper_ != nullptr) {
      helper_->post(window);
      fetcher_.open({});
    } else {
      fetcher_.open(plan_.slices(plan_.windows()[window]));
    }
  } else {
    fetcher_.open({});
  }
  open_window = &fetcher_;
}

void Session::close() {
  if (open_window == nullptr) return;
  open_window = nullptr;
  Fetcher::Tally tally = fetcher_.close();
  if (helper_ != nullptr && arm_ == Arm::applied) {
    tally.fetched_bytes = helper_->take_back();
    for (const PlanSlice& slice : plan_.slices(plan_.windows()[window_])) {
      tally.dropped_bytes += slice.length_bytes;
    }
    tally.dropped_bytes -= std::min(tally.fetched_bytes, tally.dropped_bytes);
  }
  OutcomeHeader& header = *outcome_.header;
  header.fetched_bytes += tally.fetched_bytes;
  header.dropped_bytes += tally.dropped_bytes;
  header.turns += tally.turns;
  header.fetch_ns += tally.fetch_ns;
  outcome_.windows[window_].fetched_bytes += tally.fetched_bytes;
  outcome_.windows[window_].dropped_bytes += tally.dropped_bytes;
  fetch_ns_ += tally.fetch_ns;
  window_open_.store(false, std::memory_order_relaxed);
}

// The stand-in of a slower network: as a replay does, the rank waits and fetches in the meantime.
void Session::wait_link(uint32_t ranks) {
  if (link_latency_ns_ == 0 || ranks == 1) return;
  const int64_t end_ns = clock_() + link_latency_ns_;
  while (clock_() < end_ns) {
    if (open_window != nullptr) open_window->fetch();
  }
}

void Session::ended(uint32_t ranks) {
  wait_link(ranks);
  close();
}

void Session::issued(uint64_t mark, const void* request) {
  if (mark == 0) return;
  const Busy busy(*this);
  if (!busy.taken()) return;
  for (Pending& pending : pending_) {
    if (pending.mark != 0) continue;
    pending = {mark, request};
    pending_count_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

Session::Pending* Session::find_pending(const void* request) {
  Pending* found = nullptr;
  for (Pending& pending : pending_) {
    if (pending.mark == 0) continue;
    if (step_of(pending.mark) + 1 < guard_.step()) {
      drop(pending);
    } else if (request != nullptr ? pending.request == request
                                  : found == nullptr || pending.mark < found->mark) {
      found = &pending;
    }
  }
  return found;
}

void Session::drop(Pending& pending) {
  pending = {};
  pending_count_.fetch_sub(1, std::memory_order_relaxed);
}

void Session::wait_began(const void* request) {
  if (pending_count_.load(std::memory_order_relaxed) == 0) return;
  const Busy busy(*this);
  if (!busy.taken() || off_.load(std::memory_order_relaxed)) return;
  if (const Pending* pending = find_pending(request)) open(window_of(pending->mark));
}

void Session::completed(uint64_t mark, uint32_t ranks) {
  if (mark != 0) {
    const Busy busy(*this);
    for (Pending& pending : pending_) {
      if (!busy.taken() || pending.mark != mark) continue;
      drop(pending);
      // Complete at once: the stand-in link is all the wait there is.
      if (open_window == nullptr && link_latency_ns_ > 0) open(window_of(mark));
      break;
    }
  }
  wait_link(ranks);
  if (mark != 0 && open_window != nullptr && window_ == window_of(mark)) close();
}

void Session::lost(uint64_t mark) {
  if (mark == 0) return;
  const Busy busy(*this);
  for (Pending& pending : pending_) {
    if (busy.taken() && pending.mark == mark) drop(pending);
  }
}

void Session::wait_ended() {
  close();
}

void Session::ending() {
  const Busy busy(*this);
  outcome_.header->ended = 1;
  // By now programs have released what they worked with.
  if (outcome_.header->locks == 0) tensors_.report(outcome_.tensors.data());
  if (busy.taken() && attached_) {
    engine_.detach();
    attached_ = false;
    off_.store(true, std::memory_order_relaxed);
  }
}

}  // namespace preserve::apply
