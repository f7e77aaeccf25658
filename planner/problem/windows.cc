// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/windows.h"

#include <algorithm>
#include <optional>

#include "common/as_index.h"
#include "common/units.h"
#include "planner/problem/read_gain.h"

namespace preserve {

namespace {

constexpr double kMostWindowBytes = 1e12;  // more than any cache, and sums of a million stay exact

// Time in which operators other than collectives run: the union of their intervals, since operators
// may overlap.
class BusyTime {
 public:
  explicit BusyTime(const FoldedStep& step) {
    for (const StepOp& op : step.ops) {  // in order of start
      if (op.kind == OpKind::collective || op.dur_ns <= 0) continue;
      const double end = op.start_ns + op.dur_ns;
      if (!end_.empty() && op.start_ns <= end_.back()) {
        end_.back() = std::max(end_.back(), end);
      } else {
        before_.push_back(end_.empty() ? 0 : before_.back() + end_.back() - begin_.back());
        begin_.push_back(op.start_ns);
        end_.push_back(end);
      }
    }
  }

  double within(double begin, double end) const { return until(end) - until(begin); }

 private:
  double until(double time) const {
    const auto after = std::upper_bound(begin_.begin(), begin_.end(), time);
    if (after == begin_.begin()) return 0;
    const auto i = as_index(after - begin_.begin()) - 1;
    return before_[i] + std::min(time, end_[i]) - begin_[i];
  }

  std::vector<double> begin_, end_, before_;  // disjoint intervals, and the sum of those before
};

class WindowFinder {
 public:
  WindowFinder(const FoldedStep& step, const DeviceModel& device, const PrefetchMethod& method,
               double hot_bytes_per_s, const ProblemOptions& options, const AssumedPlan& assumed)
      : step_(step),
        device_(device),
        method_(method),
        options_(options),
        assumed_(assumed),
        hot_bytes_per_s_(hot_bytes_per_s),
        memory_rate_(device.memory_bandwidth_bytes_per_s / kNsPerS),
        prefetch_rate_(std::min(method.bandwidth_bytes_per_s / kNsPerS, memory_rate_)),
        busy_(step) {}

  WindowSupplies find() {
    const bool outlasts = outlasts_window(device_);
    choose_windows(outlasts && options_.windows != WindowsMode::collective);
    WindowSupplies found;
    for (size_t w = 0; w < windows_.size(); ++w) {
      const OwnArrival own = arrival_during_window(windows_[w]);
      std::vector<Arrival> stream{own.arrival};
      if (outlasts) arrivals_after_window(w, own.latency_left_ns, stream);
      limit(stream);
      make_convex(stream);
      const double most = 1 / memory_rate_ - kNsPerS / hot_bytes_per_s_;
      for (const Arrival& arrival : stream) {
        if (&arrival != &stream.front() && arrival.cost_ns >= most) break;  // as all later ones
        windows_[w].capacity_bytes += arrival.blocks * kBlockBytes;
        found.arrivals.push_back(arrival);
      }
    }
    std::sort(found.arrivals.begin(), found.arrivals.end(),
              [](const Arrival& a, const Arrival& b) { return a.op < b.op; });
    found.windows = std::move(windows_);
    return found;
  }

 private:
  void choose_windows(bool idle_too) {
    const size_t count = step_.ops.size();
    std::vector<uint8_t> opens(count, 0), follows(count, 0);
    for (size_t i = 0; i < count; ++i) {
      if (step_.ops[i].kind != OpKind::collective) continue;
      opens[i] = 1;
      // A quiet stretch right after a window belongs to it.
      for (size_t j = (i + 1) % count; is_quiet(j) && !follows[j]; j = (j + 1) % count)
        follows[j] = 1;
    }
    bool stretch = false;
    for (size_t i = 0; i < count && idle_too; ++i) {
      const bool quiet = is_quiet(i) && !follows[i];
      if (quiet && !stretch) opens[i] = 1;
      stretch = quiet;
    }
    if (options_.windows == WindowsMode::automatic) close_where_slowdown_is_unknown(opens);
    for (size_t i = 0; i < count; ++i) {
      if (opens[i]) windows_.push_back({.ordinal = static_cast<int32_t>(i)});
    }
  }

  // Leaves an idle window only where the slow-down is known of all that its stream may run beside:
  // up to the next window or the end of the step. Beside one of unknown traffic it does not run.
  void close_where_slowdown_is_unknown(std::vector<uint8_t>& opens) const {
    bool unknown = false;
    for (size_t i = step_.ops.size(); i-- > 0;) {
      const StepOp& op = step_.ops[i];
      const bool ends = op.kind == OpKind::collective;
      unknown = !ends && (unknown || (!op.accesses.empty() && !slowdown_of(op)));
      if (ends || opens[i] == 0) continue;
      if (unknown) opens[i] = 0;
      unknown = unknown && opens[i] == 0;
    }
  }

  struct OwnArrival {
    Arrival arrival;
    double latency_left_ns = 0;  // of the start latency, after the window's operator
  };

  // What arrives while the window's own operator runs. The guard is the operator's jitter, so that
  // most repetitions are at least this long.
  OwnArrival arrival_during_window(Window& window) const {
    const StepOp& op = step_.ops[as_index(window.ordinal)];
    double length_ns = elapsed_ns(as_index(window.ordinal));
    Beside beside = cost_beside(as_index(window.ordinal), length_ns,
                                op.dur_ns - hit_ns(as_index(window.ordinal)));
    if (op.kind == OpKind::collective) {
      length_ns = op.dur_ns - busy_.within(op.start_ns, op.start_ns + op.dur_ns) +
                  static_cast<double>(options_.link_latency_ns);
      // A collective that is slowed down lasts longer, and so does the window.
      beside = slowed_by(device_.slowdown_per_byte_ns);
    }
    double start_ns = static_cast<double>(method_.start_latency_ns) + op.mad_ns;
    if (fetches_while_waiting(device_, method_)) start_ns += op.work_ns;
    window.usable_ns = static_cast<int64_t>(std::max(0.0, length_ns - start_ns));
    const double bytes = static_cast<double>(window.usable_ns) * prefetch_rate_ * beside.stretch;
    return {{window.ordinal, window.ordinal, blocks_of(bytes), beside.cost_ns},
            std::max(0.0, start_ns - length_ns)};
  }

  // After the window the stream continues, up to the next one or the end of the step, which waits
  // for it. Where it takes bandwidth that an operator would use, it slows the operator down.
  void arrivals_after_window(size_t w, double latency_left_ns, std::vector<Arrival>& stream) const {
    const size_t count = step_.ops.size();
    const int32_t ordinal = windows_[w].ordinal;
    const auto from = as_index(ordinal);
    const auto to = as_index(windows_[(w + 1) % windows_.size()].ordinal);
    const double window_end_ns = step_.ops[from].start_ns + step_.ops[from].dur_ns;
    // Runs down what is left of the start latency; returns the time of `ns` that remains after it.
    const auto after_latency = [&](double ns) {
      const double latency_ns = std::min(ns, latency_left_ns);
      latency_left_ns -= latency_ns;
      return ns - latency_ns;
    };
    double bytes = prefetch_rate_ * after_latency(idle_after_ns(from));
    int64_t blocks = blocks_of(bytes);
    if (blocks > 0) stream.push_back({ordinal, ordinal, blocks, 0});
    for (size_t i = from + 1; i < count && i != to; ++i) {
      const StepOp& op = step_.ops[i];
      if (op.start_ns < window_end_ns) continue;  // during the window: counted there
      if (op.accesses.empty()) continue;          // unknown traffic, unknown cost
      const auto arrive = [&](double ns, const Beside& beside) {
        bytes += prefetch_rate_ * beside.stretch * after_latency(ns);
        const int64_t more = blocks_of(bytes) - blocks;
        blocks += more;
        if (more > 0) stream.push_back({op.ordinal, ordinal, more, beside.cost_ns});
      };
      const double hits_ns = std::min(reading_hits_ns(i), elapsed_ns(i));
      const double rest_ns = elapsed_ns(i) - hits_ns;
      if (hits_ns > 0) arrive(hits_ns, slowed_by(slowdown_of(op).value_or(0)));
      if (rest_ns > 0) arrive(rest_ns, cost_beside(i, rest_ns, op.dur_ns - hit_ns(i) - hits_ns));
    }
  }

  // From the end of a collective until the next operator starts; for other operators
  // arrival_during_window() includes that time.
  double idle_after_ns(size_t window) const {
    const StepOp& op = step_.ops[window];
    return op.kind == OpKind::collective ? std::max(0.0, elapsed_ns(window) - op.dur_ns) : 0;
  }

  void limit(std::vector<Arrival>& stream) const {
    if (assumed_.window_bytes.empty()) return;
    const auto window = as_index(stream.front().window_op);
    int64_t left = assumed_.window_bytes[window] / kBlockBytes;
    for (Arrival& arrival : stream) {
      arrival.blocks = std::min(arrival.blocks, left);
      left -= arrival.blocks;
    }
  }

  // The stream must move earlier bytes first, even when they fall into an expensive interval. The
  // convex envelope of its cost is what a flow can express, and exact for a window that is unused
  // or used up to one of the envelope's corners: neighbours are pooled until costs ascend.
  static void make_convex(std::vector<Arrival>& stream) {
    struct Pool {
      size_t end;
      double blocks, cost;  // cost: sum
      double mean() const { return blocks > 0 ? cost / blocks : 0; }
    };
    std::vector<Pool> pools;
    for (size_t i = 0; i < stream.size(); ++i) {
      const auto blocks = static_cast<double>(stream[i].blocks);
      pools.push_back({i + 1, blocks, blocks * stream[i].cost_ns});
      while (pools.size() > 1 && pools.back().mean() < pools[pools.size() - 2].mean()) {
        const Pool last = pools.back();
        pools.pop_back();
        pools.back() = {last.end, pools.back().blocks + last.blocks, pools.back().cost + last.cost};
      }
    }
    size_t i = 0;
    for (const Pool& pool : pools) {
      for (; i < pool.end; ++i) stream[i].cost_ns = pool.mean();
    }
  }

  static int64_t blocks_of(double bytes) {
    return static_cast<int64_t>(std::min(bytes, kMostWindowBytes) / kBlockBytes);
  }

  // From its start to the next operator's, or to the end of the step, less what its hits save.
  double elapsed_ns(size_t i) const {
    const double next_ns = i + 1 < step_.ops.size() ? step_.ops[i + 1].start_ns : step_.wall_ns;
    return std::max(0.0, next_ns - step_.ops[i].start_ns - hit_ns(i));
  }

  double hit_bytes(size_t i) const {
    return assumed_.hit_bytes.empty() ? 0 : static_cast<double>(assumed_.hit_bytes[i]);
  }
  double hit_ns(size_t i) const {
    if (hit_bytes(i) <= 0) return 0;
    const ReadGain gain = read_gain(step_.ops[i], device_, hot_bytes_per_s_);
    return std::min(gain.most_ns, gain.saved_per_byte_ns * hit_bytes(i));
  }

  double reading_hits_ns(size_t i) const {
    if (hit_bytes(i) <= 0) return 0;
    return hit_bytes(i) * read_gain(step_.ops[i], device_, hot_bytes_per_s_).hit_byte_ns;
  }

  double bytes_from_memory(size_t i) const {
    double bytes = -hit_bytes(i);
    for (const StepAccess& access : step_.ops[i].accesses) {
      bytes += static_cast<double>(access.bytes);
    }
    return std::max(0.0, bytes);
  }

  // Time that an operator loses per byte prefetched during `interval_ns` of it. What hits it reads
  // first, and leaves the memory to the stream; then both together demand more than the memory
  // provides, and share it in proportion.
  double contention_ns(size_t i, double interval_ns) const {
    const double dur_ns = step_.ops[i].dur_ns - hit_ns(i);
    if (dur_ns <= 0) return 0;
    const double misses_ns = dur_ns - reading_hits_ns(i);
    if (misses_ns <= 0) return 0;
    const double demand_rate = std::min(bytes_from_memory(i) / misses_ns, memory_rate_);
    const double excess = std::max(0.0, demand_rate + prefetch_rate_ - memory_rate_);
    const double running = std::min(1.0, misses_ns / std::max(interval_ns, 1e-9));
    return running * excess / (prefetch_rate_ * memory_rate_);
  }

  // What bytes cost beside an operator, and how many more arrive because it lasts longer.
  struct Beside {
    double cost_ns = 0, stretch = 1;  // per byte
  };
  Beside slowed_by(double slowdown_ns) const {
    const double left = 1 - slowdown_ns * prefetch_rate_;  // of the time, for the operator
    return {slowdown_ns, left > 0 ? 1 / left : 1};
  }
  // In `interval_ns`, of which it runs for `running_ns` and misses: it shares the memory, and is
  // slowed down besides.
  Beside cost_beside(size_t i, double interval_ns, double running_ns) const {
    const double running = std::clamp(running_ns / std::max(interval_ns, 1e-9), 0.0, 1.0);
    Beside beside = slowed_by(running * slowdown_of(step_.ops[i]).value_or(0));
    beside.cost_ns += contention_ns(i, interval_ns);
    return beside;
  }

  std::optional<double> slowdown_of(const StepOp& op) const {
    if (!method_.operator_slowdown_per_byte_ns.any()) return std::nullopt;
    const std::optional<OperatorClass> of = operator_class(step_, op);
    return of ? method_.operator_slowdown_per_byte_ns[*of] : std::nullopt;
  }

  // Leaves enough bandwidth to prefetch at full rate, as it was recorded: one that does because its
  // reads hit stops doing so as soon as a prefetch for it is late. An operator of unknown traffic
  // is not quiet.
  bool is_quiet(size_t i) const {
    const StepOp& op = step_.ops[i];
    if (op.accesses.empty() || op.kind == OpKind::collective || op.kind == OpKind::p2p)
      return false;
    double bytes = 0;
    for (const StepAccess& access : op.accesses) bytes += static_cast<double>(access.bytes);
    return bytes <= op.dur_ns * (memory_rate_ - prefetch_rate_);
  }

  const FoldedStep& step_;
  const DeviceModel& device_;
  const PrefetchMethod& method_;
  const ProblemOptions& options_;
  const AssumedPlan& assumed_;
  double hot_bytes_per_s_;
  double memory_rate_, prefetch_rate_;  // bytes per ns
  BusyTime busy_;
  std::vector<Window> windows_;
};

}  // namespace

WindowSupplies find_windows(const FoldedStep& step, const DeviceModel& device,
                            const PrefetchMethod& method, double hot_bytes_per_s,
                            const ProblemOptions& options, const AssumedPlan& assumed) {
  return WindowFinder(step, device, method, hot_bytes_per_s, options, assumed).find();
}

}  // namespace preserve
