// SPDX-License-Identifier: Apache-2.0
#include "planner/search/bounds.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/as_index.h"

namespace preserve {

namespace {

constexpr int kPriceSteps = 34;
constexpr double kGolden = 0.6180339887498949;  // of the range of prices, kept in each step

// An operator that a plan can shorten: hits save `saved_per_byte_ns` each, up to `most_bytes`.
struct Gain {
  double saved_per_byte_ns = 0, most_bytes = 0;
};

// The most that so many hits can save together.
double most_saved_ns(std::vector<Gain>& gains, double bytes) {
  std::sort(gains.begin(), gains.end(),
            [](const Gain& a, const Gain& b) { return a.saved_per_byte_ns > b.saved_per_byte_ns; });
  double saved_ns = 0;
  for (const Gain& gain : gains) {
    const double taken = std::min(bytes, gain.most_bytes);
    saved_ns += taken * gain.saved_per_byte_ns;
    bytes -= taken;
  }
  return saved_ns;
}

// Bytes that each operator reads and that were touched so recently that a plan may turn them into
// hits without fetching them from memory. `most_age_bytes`: by tensor.
std::vector<double> reused_bytes(const FoldedStep& step,
                                 const std::vector<double>& most_age_bytes) {
  struct Touch {
    int64_t begin, end;
    double at_bytes;
  };
  std::vector<std::vector<Touch>> touches(step.tensors.size());
  std::vector<double> reused(step.ops.size(), 0);
  double passed_bytes = 0;
  for (const bool second_time : {false, true}) {  // what the step before has left
    for (const StepOp& op : step.ops) {
      double bytes = 0;
      for (const StepAccess& access : op.accesses) {
        std::vector<Touch>& of_tensor = touches[as_index(access.tensor)];
        std::erase_if(of_tensor, [&](const Touch& touch) {
          return passed_bytes - touch.at_bytes > most_age_bytes[as_index(access.tensor)];
        });
        double again = 0;
        for (const Touch& touch : of_tensor) {
          const int64_t begin = std::max(access.offset_bytes, touch.begin);
          const int64_t end = std::min(access.offset_bytes + access.bytes, touch.end);
          again += static_cast<double>(std::max<int64_t>(0, end - begin));
        }
        if (access.mode == AccessMode::read)
          bytes += std::min(again, static_cast<double>(access.bytes));
      }
      const double first_byte = passed_bytes;  // all that it touches is as old
      for (const StepAccess& access : op.accesses) {
        passed_bytes += static_cast<double>(access.bytes);
        touches[as_index(access.tensor)].push_back(
            {access.offset_bytes, access.offset_bytes + access.bytes, first_byte});
      }
      if (second_time) reused[as_index(op.ordinal)] = bytes;
    }
  }
  return reused;
}

// How long ago the bytes of each tensor may have been touched that still hit, though they are not
// fetched from memory: a plan lets others come earlier, and each prefetch of bytes that are still
// cached makes them young again.
std::vector<double> oldest_reused_bytes(const PlanProblem& problem, size_t tensors,
                                        double oldest_bytes) {
  std::vector<double> ages(tensors, oldest_bytes + static_cast<double>(problem.budget_bytes));
  for (const PlanConsumer& consumer : problem.consumers) {
    for (const Slice& slice : consumer.slices) ages[as_index(slice.tensor)] += oldest_bytes;
  }
  return ages;
}

class Bounds {
 public:
  Bounds(const FoldedStep& step, const DeviceModel& device, const PlanProblem& problem,
         const Referee& referee, const std::vector<int32_t>& windows)
      : step_(step),
        problem_(problem),
        models_(referee.models()),
        hardware_(referee.hardware()),
        baseline_ns_(referee.baseline_step_ns()),
        windows_(windows),
        candidate_bytes_(step.ops.size(), 0),
        reads_bytes_(step.ops.size(), 0) {
    find_candidates();
    const std::vector<double> reused = reused_bytes(
        step, oldest_reused_bytes(problem, step.tensors.size(), most_cached_bytes(device)));
    for (size_t i = 0; i < models_.size(); ++i) {
      OpModel& model = models_[i];
      for (const StepAccess& access : step.ops[i].accesses) {
        if (access.mode == AccessMode::read) reads_bytes_[i] += static_cast<double>(access.bytes);
      }
      // As if all that may hit without being fetched did.
      const double hits = std::max(reused[i], model.base_hit_bytes);
      const double less_ns = std::min(model.base_ns - model.floor_ns,
                                      (hits - model.base_hit_bytes) * model.saved_per_hit_byte_ns);
      reads_bytes_[i] = std::max(0.0, reads_bytes_[i] - hits);
      baseline_ns_ -= less_ns;
      model.base_ns -= less_ns;
    }
  }

  // What is read between two windows is fetched and unread when the first of them opens.
  double cache_limited_ns() const {
    if (windows_.empty()) return baseline_ns_;
    double saved_ns = 0;
    std::vector<Gain> gains;
    size_t window = 0;
    const auto close = [&] {
      saved_ns += most_saved_ns(gains, static_cast<double>(problem_.budget_bytes));
      gains.clear();
    };
    // Around the ring, from the first window on.
    const auto first = std::upper_bound(readers_.begin(), readers_.end(), windows_.front());
    for (auto reader = first; reader != readers_.end(); ++reader) {
      while (window + 1 < windows_.size() && windows_[window + 1] < *reader) {
        close();
        ++window;
      }
      gains.push_back(gain_of(*reader));
    }
    if (window + 1 < windows_.size()) close();
    for (auto reader = readers_.begin(); reader != first; ++reader) {
      gains.push_back(gain_of(*reader));
    }
    close();
    return baseline_ns_ - saved_ns;
  }

  // Every byte that hits has been moved by the stream, which shares the memory with the operators.
  // For any price of a moved byte the sum of what each operator then does best is a lower bound.
  double window_limited_ns() {
    if (windows_.empty() || rate() <= 0) return baseline_ns_;
    if (!one_after_another()) return baseline_ns_ - saved_by_what_arrives_ns();
    find_ways();
    double low = 0, high = 0;
    for (const OpModel& model : models_) high = std::max(high, model.saved_per_hit_byte_ns);
    // Concave in the price: one of two inner prices stays one when the range shrinks.
    double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
    double at_a = step_at_price_ns(a), at_b = step_at_price_ns(b);
    double best_ns = std::max(at_a, at_b);
    for (int i = 0; i < kPriceSteps; ++i) {
      if (at_a < at_b) {
        low = std::exchange(a, b);
        at_a = at_b;
        b = low + kGolden * (high - low);
        at_b = step_at_price_ns(b);
      } else {
        high = std::exchange(b, a);
        at_b = at_a;
        a = high - kGolden * (high - low);
        at_a = step_at_price_ns(a);
      }
      best_ns = std::max({best_ns, at_a, at_b});
    }
    return std::min(best_ns, baseline_ns_);
  }

 private:
  // An operator may also find what is fetched for a later reader of the same bytes.
  void find_candidates() {
    struct Range {
      int64_t begin = std::numeric_limits<int64_t>::max(), end = 0;
    };
    std::vector<Range> fetched(step_.tensors.size());
    for (const PlanConsumer& consumer : problem_.consumers) {
      for (const Slice& slice : consumer.slices) {
        Range& range = fetched[as_index(slice.tensor)];
        range.begin = std::min(range.begin, slice.offset_bytes);
        range.end = std::max(range.end, slice.offset_bytes + slice.blocks * kBlockBytes);
      }
    }
    for (const StepOp& op : step_.ops) {
      double& bytes = candidate_bytes_[as_index(op.ordinal)];
      for (const StepAccess& access : op.accesses) {
        if (access.mode != AccessMode::read) continue;
        const Range& range = fetched[as_index(access.tensor)];
        const int64_t most = std::min(access.offset_bytes + access.bytes, range.end) -
                             std::max(access.offset_bytes, range.begin);
        bytes += static_cast<double>(std::max<int64_t>(0, most));
      }
      if (bytes > 0) readers_.push_back(op.ordinal);
    }
  }

  double rate() const { return hardware_.stream.rate_bytes_per_ns; }
  bool outlasts() const { return !hardware_.stream.stops_with_window; }

  Gain gain_of(int32_t ordinal) const {
    const OpModel& model = models_[as_index(ordinal)];
    const double saved_ns = model.saved_per_hit_byte_ns;
    if (saved_ns <= 0) return {};
    return {saved_ns, std::min(candidate_bytes_[as_index(ordinal)],
                               (model.base_ns - model.floor_ns) / saved_ns)};
  }

  // The most that can move while a window is open: a collective that is slowed down stays longer.
  double moved_in_window(size_t op, double work_ns) const {
    const double slowed = 1 - hardware_.slowdown_per_byte_ns * rate();
    const double latency_ns = outlasts() ? 0 : hardware_.stream.start_latency_ns;
    const double open_ns = std::max(0.0, models_[op].base_ns - work_ns - latency_ns);
    return slowed > 0 ? rate() * open_ns / slowed : 0;
  }

  bool one_after_another() const {
    double end_ns = 0;
    return std::all_of(step_.ops.begin(), step_.ops.end(), [&](const StepOp& op) {
      const bool after = op.start_ns >= end_ns - 1e-6;
      end_ns = op.start_ns + op.dur_ns;
      return after;
    });
  }

  double saved_by_what_arrives_ns() const {
    double bytes = 0;
    if (outlasts()) {
      bytes = rate() * baseline_ns_;
    } else {
      // One that is slowed down by another's bytes may stay beyond its work.
      for (const int32_t window : windows_) bytes += moved_in_window(as_index(window), 0);
    }
    std::vector<Gain> gains;
    for (const int32_t reader : readers_) gains.push_back(gain_of(reader));
    return most_saved_ns(gains, bytes);
  }

  // One way in which an operator may go: what hits costs the price of a byte, what the stream moves
  // meanwhile brings it in.
  struct Way {
    double dur_ns = 0, hits_less_moved = 0;
    double at(double price_ns) const { return dur_ns + price_ns * hits_less_moved; }
  };

  bool may_move_during(size_t op) const { return outlasts() && op >= as_index(windows_.front()); }

  // Of each operator those that are the best at some price, and where those of the next begin.
  void find_ways() {
    std::vector<Way> of_op;
    for (size_t op = 0; op < models_.size(); ++op) {
      of_op.clear();
      models_[op].collective ? ways_of_collective(op, of_op) : ways_of_operator(op, of_op);
      for (const Way& way : of_op) {
        const bool worse = std::any_of(of_op.begin(), of_op.end(), [&](const Way& other) {
          return other.dur_ns <= way.dur_ns && other.hits_less_moved <= way.hits_less_moved &&
                 (other.at(1) < way.at(1) || &other < &way);
        });
        if (!worse) ways_.push_back(way);
      }
      end_of_ways_.push_back(ways_.size());
      operators_ns_ += models_[op].base_ns;
    }
  }

  double step_at_price_ns(double price_ns) const {
    double sum_ns = 0;
    size_t i = 0;
    for (const size_t end : end_of_ways_) {
      double best_ns = ways_[i].at(price_ns);
      for (++i; i < end; ++i) best_ns = std::min(best_ns, ways_[i].at(price_ns));
      sum_ns += best_ns;
    }
    const double idle_ns = std::max(0.0, baseline_ns_ - operators_ns_);
    return sum_ns + idle_ns * (outlasts() ? 1 - price_ns * rate() : 1);
  }

  void ways_of_collective(size_t op, std::vector<Way>& ways) const {
    ways.push_back({models_[op].base_ns, 0});
    if (op < as_index(windows_.front())) return;
    const double moved = moved_in_window(op, models_[op].work_ns);
    ways.push_back({models_[op].base_ns + hardware_.slowdown_per_byte_ns * moved, -moved});
  }

  // With nothing, with all, and with as much read from the cache as is where one limit meets
  // another: in between both terms are linear.
  void ways_of_operator(size_t op, std::vector<Way>& ways) const {
    const OpModel& model = models_[op];
    const double saved_ns = model.saved_per_hit_byte_ns;
    const double reads = reads_bytes_[op];
    const double most = std::min(candidate_bytes_[op], reads);
    const auto alone_ns = [&](double hits) {
      return std::max(model.floor_ns, model.base_ns - hits * saved_ns);
    };
    const auto demand = [&](double hits) {
      return alone_ns(hits) > 0 ? (reads - hits) / alone_ns(hits) : 0;
    };
    const double memory = std::max({hardware_.memory_bytes_per_ns, demand(0), demand(most)});
    const auto add = [&](double hits) {
      const double dur_ns = alone_ns(hits);
      if (!may_move_during(op)) return ways.push_back({dur_ns, hits});
      const double free = std::max(0.0, memory * dur_ns - (reads - hits));
      ways.push_back({dur_ns, hits - std::min(rate() * dur_ns, free)});
      if (free < rate() * dur_ns && rate() < memory) {  // waits until the stream has moved more
        const double moved = rate() * (reads - hits) / (memory - rate());
        ways.push_back({(reads - hits + moved) / memory, hits - moved});
      }
    };
    const auto consider = [&](double hits) {
      if (hits > 0 && hits < most) add(hits);
    };
    add(0);
    if (most <= 0) return;
    add(most);
    if (saved_ns > 0) consider((model.base_ns - model.floor_ns) / saved_ns);
    // Where the stream's rate, or nothing at all, is exactly what the memory has left.
    for (const double left : {memory, memory - rate()}) {
      if (left * saved_ns != 1) consider((reads - left * model.base_ns) / (1 - left * saved_ns));
      consider(reads - left * model.floor_ns);
    }
  }

  const FoldedStep& step_;
  const PlanProblem& problem_;
  std::vector<OpModel> models_;
  const EngineHardware& hardware_;
  double baseline_ns_;
  const std::vector<int32_t>& windows_;
  std::vector<double> candidate_bytes_, reads_bytes_;  // by ordinal
  std::vector<int32_t> readers_;                       // of candidates, ascending
  std::vector<Way> ways_;
  std::vector<size_t> end_of_ways_;  // by ordinal
  double operators_ns_ = 0;
};

}  // namespace

StepBounds step_bounds(const FoldedStep& step, const DeviceModel& device,
                       const PlanProblem& problem, const Referee& referee,
                       const std::vector<int32_t>& windows) {
  Bounds bounds(step, device, problem, referee, windows);
  const double all_hot_ns = referee.all_hot_step_ns();
  return {all_hot_ns, std::max(all_hot_ns, bounds.window_limited_ns()),
          std::max(all_hot_ns, bounds.cache_limited_ns())};
}

// One more block of cache widens every edge that has any room or is just full.
double cache_price_ns_per_mib(const PlanProblem& problem, const FlowSolution& optimum) {
  constexpr double kMiB = 1024.0 * 1024.0;
  double price_ns = 0;
  const size_t nodes = problem.flow.hold.size();
  for (size_t edge = 0; edge < nodes; ++edge) {
    if (problem.edge_room_bytes[edge] < 0) continue;
    const int64_t rise = optimum.price[(edge + 1) % nodes] - optimum.price[edge];
    price_ns += price_to_ns(std::max<int64_t>(0, rise));
  }
  return price_ns * kMiB / static_cast<double>(kBlockBytes);
}

}  // namespace preserve
