// SPDX-License-Identifier: Apache-2.0
#include "planner/problem.h"

#include <algorithm>
#include <cmath>

#include "common/cli.h"
#include "common/error.h"
#include "common/units.h"
#include "planner/candidates.h"
#include "planner/read_gain.h"

namespace preserve {

namespace {

constexpr double kNsPerS = 1e9;
// Times beyond this (almost 3 hours) are not a decode step; their prices would not fit the
// integers.
constexpr double kLongestStepNs = 1e13;
constexpr double kMostWindowBytes = 1e12;  // more than any cache, and sums of a million stay exact

// --- the inputs ----------------------------------------------------------------------------------

void check_operator(const FoldedStep& step, const StepOp& op, size_t position) {
  if (op.ordinal != static_cast<int32_t>(position) ||
      (position > 0 && op.start_ns < step.ops[position - 1].start_ns)) {
    throw input_error("{}: operator {} ({}) is out of order: operators are numbered by start",
                      step.trace_file, op.ordinal, printable(op.name));
  }
  const auto impossible = [](double ns) {
    return !std::isfinite(ns) || ns < 0 || ns > kLongestStepNs;
  };
  if (impossible(op.dur_ns) || impossible(op.start_ns) || impossible(op.mad_ns)) {
    throw input_error(
        "{}: operator {} ({}) starts at {} ns and lasts {} ns: no decode step has such times; "
        "record "
        "it again, or check the importer's time unit",
        step.trace_file, op.ordinal, printable(op.name), op.start_ns, op.dur_ns);
  }
  for (const StepAccess& access : op.accesses) {
    if (access.tensor < 0 || static_cast<size_t>(access.tensor) >= step.tensors.size() ||
        access.offset_bytes < 0 || access.bytes < 0) {
      throw input_error(
          "{}: operator {} ({}) has an impossible access: tensor {}, offset {}, {} bytes",
          step.trace_file, op.ordinal, printable(op.name), access.tensor, access.offset_bytes,
          access.bytes);
    }
  }
}

void check_step(const FoldedStep& step) {
  bool collective = false, named = false;
  double sum_ns = 0;
  for (size_t i = 0; i < step.ops.size(); ++i) {
    const StepOp& op = step.ops[i];
    check_operator(step, op, i);
    sum_ns += op.dur_ns;
    collective = collective || op.kind == OpKind::collective;
    for (const StepAccess& access : op.accesses) {
      const TensorRole role = step.tensors[static_cast<size_t>(access.tensor)].role;
      named = named || role == TensorRole::weight || role == TensorRole::kv;
    }
  }
  if (!std::isfinite(step.wall_ns) || step.wall_ns < 0 || step.wall_ns > kLongestStepNs ||
      sum_ns > kLongestStepNs) {
    throw input_error(
        "{}: the step lasts {} ns and its operators {} ns together: no decode step does",
        step.trace_file, step.wall_ns, sum_ns);
  }
  if (!collective) {
    throw input_error(
        "{}: the step of rank {} has no collective, so there is no window to prefetch in: record a "
        "tensor-parallel run (2 or more ranks), with MPI or NCCL collectives inside the step",
        step.trace_file, step.rank);
  }
  if (!named) {
    throw input_error(
        "{}: no operator of the step reads a named tensor, so there is nothing to prefetch: name "
        "the "
        "weights and the KV-cache with NVTX memory regions (layers.0.mlp.up.weight) inside ranges "
        "that carry the module's name (layers.0.mlp.up)",
        step.trace_file);
  }
}

int64_t choose_budget(const DeviceModel& device, const std::optional<int64_t>& wanted) {
  if (!wanted) return device.cache_budget_bytes;
  if (*wanted <= 0) throw usage_error("--budget: a budget of zero leaves nothing to plan");
  if (*wanted > device.cache_bytes) {
    throw usage_error("--budget: {} is more than the cache of {} ({})",
                      format_size(static_cast<double>(*wanted)), device.name,
                      format_size(static_cast<double>(device.cache_bytes)));
  }
  if (*wanted < kBlockBytes) {
    throw usage_error("--budget: {} bytes are less than the smallest slice, {} bytes", *wanted,
                      kBlockBytes);
  }
  return *wanted;
}

// --- what the operators leave behind -------------------------------------------------------------

// Bytes that an operator streams through the cache, whatever part of them was prefetched.
int64_t footprint(const FoldedStep& step, const StepOp& op, double hot_bytes_per_s) {
  int64_t bytes = 0;
  for (const StepAccess& access : op.accesses) {
    bytes = checked_add(bytes, access.bytes, step.trace_file + ": bytes of an operator");
  }
  if (op.accesses.empty() && op.collective && op.collective->bytes) {
    bytes = std::max<int64_t>(0, *op.collective->bytes);
  }
  if (op.kind == OpKind::collective) return bytes;
  // No more can have passed than the cache itself delivers in the recorded time.
  const double most = std::max(0.0, op.dur_ns * hot_bytes_per_s / kNsPerS);
  return most < static_cast<double>(bytes) ? static_cast<int64_t>(most) : bytes;
}

// Time in which operators other than collectives run: the union of their intervals, since operators
// may overlap on one stream and run beside each other on several.
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
    const auto i = static_cast<size_t>(after - begin_.begin()) - 1;
    return before_[i] + std::min(time, end_[i]) - begin_[i];
  }

  std::vector<double> begin_, end_, before_;  // disjoint intervals, and the sum of those before
};

// --- the builder ---------------------------------------------------------------------------------

class Builder {
 public:
  Builder(const FoldedStep& step, const DeviceModel& device, const ProblemOptions& options,
          const std::vector<int64_t>& hit_bytes)
      : hit_bytes_(hit_bytes),
        step_(step),
        device_(device),
        options_(options),
        method_(choose_method(device, options.method)),
        hot_bytes_per_s_(hot_read_rate(device, method_)),
        busy_(step) {}

  PlanProblem build() {
    problem_.budget_bytes = choose_budget(device_, options_.budget_bytes);
    describe_step();
    find_windows();
    measure_traffic();
    find_consumers();
    lay_out_ring();
    check_flow_problem(problem_.flow);
    return std::move(problem_);
  }

 private:
  struct Arrival {
    int32_t op = 0, window_op = 0;
    int64_t blocks = 0;
    double cost_ns = 0;  // per byte
  };

  void describe_step() {
    ProblemNotes& notes = problem_.notes;
    problem_.baseline_step_ns = step_.wall_ns;
    std::vector<double> stream_end(step_.streams.size() + 1, 0);
    for (const StepOp& op : step_.ops) {
      if (op.kind == OpKind::collective) {
        problem_.baseline_step_ns += static_cast<double>(options_.link_latency_ns);
      }
      notes.zero_duration_operators += op.dur_ns <= 0;
      notes.operators_without_bytes += op.kind == OpKind::compute && op.accesses.empty();
      double& end =
          stream_end[std::min(static_cast<size_t>(std::max(op.stream, 0)), step_.streams.size())];
      notes.overlapping_operators += op.start_ns < end;
      end = std::max(end, op.start_ns + op.dur_ns);
    }
  }

  void find_windows() {
    if (method_ == nullptr) return;
    memory_rate_ = device_.memory_bandwidth_bytes_per_s / kNsPerS;
    prefetch_rate_ = std::min(method_->bandwidth_bytes_per_s / kNsPerS, memory_rate_);
    const bool goes_on = goes_on_behind_window(device_, *method_);
    choose_windows(goes_on && options_.windows == WindowsMode::idle);
    for (size_t w = 0; w < problem_.windows.size(); ++w) {
      std::vector<Arrival> stream{own_arrival(w)};
      if (goes_on) arrive_behind(w, stream);
      make_convex(stream);
      const double most = 1 / memory_rate_ - 1 / (hot_bytes_per_s_ / kNsPerS);
      for (const Arrival& arrival : stream) {
        if (&arrival != &stream.front() && arrival.cost_ns >= most) break;  // and so are all behind
        problem_.windows[w].capacity_bytes += arrival.blocks * kBlockBytes;
        arrivals_.push_back(arrival);
      }
    }
    std::sort(arrivals_.begin(), arrivals_.end(),
              [](const Arrival& a, const Arrival& b) { return a.op < b.op; });
  }

  void choose_windows(bool idle_too) {
    const size_t count = step_.ops.size();
    std::vector<uint8_t> opens(count, 0), behind(count, 0);
    for (size_t i = 0; i < count; ++i) {
      if (step_.ops[i].kind != OpKind::collective) continue;
      opens[i] = 1;
      // A quiet stretch right behind a window belongs to it.
      for (size_t j = (i + 1) % count; is_quiet(j) && !behind[j]; j = (j + 1) % count)
        behind[j] = 1;
    }
    bool stretch = false;
    for (size_t i = 0; i < count && idle_too; ++i) {
      const bool quiet = is_quiet(i) && !behind[i];
      if (quiet && !stretch) opens[i] = 1;
      stretch = quiet;
    }
    for (size_t i = 0; i < count; ++i) {
      if (opens[i]) problem_.windows.push_back({.ordinal = static_cast<int32_t>(i)});
    }
  }

  // What arrives while the window's own operator runs. The guard is the operator's jitter, so that
  // most repetitions are at least this long.
  Arrival own_arrival(size_t w) {
    Window& window = problem_.windows[w];
    const StepOp& op = step_.ops[static_cast<size_t>(window.ordinal)];
    double length_ns = elapsed_ns(static_cast<size_t>(window.ordinal));
    double cost_ns = contention_ns(static_cast<size_t>(window.ordinal));
    double stretch = 1;
    if (op.kind == OpKind::collective) {
      length_ns = op.dur_ns - busy_.within(op.start_ns, op.start_ns + op.dur_ns) +
                  static_cast<double>(options_.link_latency_ns);
      // A collective that is slowed down lasts longer, and so does the window.
      cost_ns = device_.slowdown_per_byte_ns;
      const double slowed = 1 - cost_ns * prefetch_rate_;
      if (slowed > 0) stretch = 1 / slowed;
    }
    const double start_ns = static_cast<double>(method_->start_latency_ns) + op.mad_ns;
    window.usable_ns = static_cast<int64_t>(std::max(0.0, length_ns - start_ns));
    latency_left_ns_ = std::max(0.0, start_ns - length_ns);
    const double bytes = static_cast<double>(window.usable_ns) * prefetch_rate_ * stretch;
    return {window.ordinal, window.ordinal, blocks_of(bytes), cost_ns};
  }

  // Behind the window the stream goes on, up to the next one. Where it takes bandwidth that the
  // operator would use, it slows the operator down.
  void arrive_behind(size_t w, std::vector<Arrival>& stream) {
    const size_t count = step_.ops.size();
    const int32_t ordinal = problem_.windows[w].ordinal;
    const auto from = static_cast<size_t>(ordinal);
    const auto to =
        static_cast<size_t>(problem_.windows[(w + 1) % problem_.windows.size()].ordinal);
    const double window_end_ns = step_.ops[from].start_ns + step_.ops[from].dur_ns;
    double bytes = 0;
    int64_t blocks = 0;
    for (size_t i = (from + 1) % count; i != to; i = (i + 1) % count) {
      const StepOp& op = step_.ops[i];
      if (i > from && op.start_ns < window_end_ns) continue;  // beside the window: counted there
      if (op.accesses.empty()) return;  // unknown traffic: nobody knows what it would cost
      const double latency_ns = std::min(elapsed_ns(i), latency_left_ns_);
      latency_left_ns_ -= latency_ns;
      bytes += prefetch_rate_ * (elapsed_ns(i) - latency_ns);
      const int64_t more = blocks_of(bytes) - blocks;
      blocks += more;
      if (more > 0) stream.push_back({op.ordinal, ordinal, more, contention_ns(i)});
    }
  }

  // The stream moves its bytes in order: it cannot skip a costly stretch to reach a free one. The
  // convex envelope of its cost is what a flow can express, and exact for a window that is not used
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
    return hit_bytes_.empty() ? 0 : static_cast<double>(hit_bytes_[i]);
  }
  double hit_ns(size_t i) const {
    if (hit_bytes(i) <= 0) return 0;
    const ReadGain gain = read_gain(step_.ops[i], device_, hot_bytes_per_s_);
    return std::min(gain.most_ns, gain.saved_per_byte_ns * hit_bytes(i));
  }

  double bytes_from_memory(size_t i) const {
    double bytes = -hit_bytes(i);
    for (const StepAccess& access : step_.ops[i].accesses) {
      bytes += static_cast<double>(access.bytes);
    }
    return std::max(0.0, bytes);
  }

  // Time that an operator loses per byte prefetched beside it: both together want more than the
  // memory gives, and share it in proportion.
  double contention_ns(size_t i) const {
    const double dur_ns = step_.ops[i].dur_ns - hit_ns(i);
    if (dur_ns <= 0) return 0;
    const double demand_rate = std::min(bytes_from_memory(i) / dur_ns, memory_rate_);
    const double excess = std::max(0.0, demand_rate + prefetch_rate_ - memory_rate_);
    const double running = std::min(1.0, dur_ns / std::max(elapsed_ns(i), 1e-9));
    return running * excess / (prefetch_rate_ * memory_rate_);
  }

  // Leaves enough bandwidth to prefetch at full rate. What is not known is not quiet.
  bool is_quiet(size_t i) const {
    const StepOp& op = step_.ops[i];
    if (op.accesses.empty() || op.kind == OpKind::collective || op.kind == OpKind::p2p)
      return false;
    return contention_ns(i) <= 0;
  }

  // What has streamed through the cache since the last window began, up to and including each
  // operator. Bytes held over the operator are at least as old, so in a cache that forgets the
  // least recently used first they survive only beside all of it.
  void measure_traffic() {
    const size_t count = step_.ops.size();
    footprints_.reserve(count);
    int64_t total = 0;
    for (const StepOp& op : step_.ops) {
      footprints_.push_back(footprint(step_, op, hot_bytes_per_s_));
      total = checked_add(total, footprints_.back(), step_.trace_file + ": bytes of the step");
    }
    checked_add(total, total, step_.trace_file + ": bytes of the step");
    problem_.traffic_bytes.assign(count, 0);
    if (problem_.windows.empty()) return;  // nothing is ever held
    std::vector<uint8_t> opens(count, 0);
    for (const Window& window : problem_.windows) opens[static_cast<size_t>(window.ordinal)] = 1;
    int64_t since = 0;
    for (size_t walked = 0; walked < count; ++walked) {
      const size_t i = (static_cast<size_t>(problem_.windows.front().ordinal) + walked) % count;
      since = footprints_[i] + (opens[i] ? 0 : since);
      problem_.traffic_bytes[i] = since;
    }
  }

  void find_consumers() {
    std::vector<std::vector<Slice>> slices =
        find_candidates(step_, footprints_, device_.cache_budget_bytes, problem_.notes);
    double all_saved_ns = 0;
    for (size_t i = 0; i < step_.ops.size(); ++i) {
      const ReadGain gain = read_gain(step_.ops[i], device_, hot_bytes_per_s_);
      all_saved_ns += gain.most_ns;
      problem_.notes.clamped_operators += gain.clamped;
      if (slices[i].empty()) continue;
      Consumer consumer;
      consumer.ordinal = static_cast<int32_t>(i);
      consumer.slices = std::move(slices[i]);
      for (const Slice& slice : consumer.slices) consumer.blocks += slice.blocks;
      problem_.candidate_bytes += consumer.blocks * kBlockBytes;
      add_demands(consumer, gain);
      if (consumer.demands > 0) problem_.consumers.push_back(std::move(consumer));
    }
    problem_.all_hot_step_ns = std::max(0.0, problem_.baseline_step_ns - all_saved_ns);
  }

  // Concave: full price until the operator's floor is reached, then one block for what is left.
  void add_demands(Consumer& consumer, const ReadGain& gain) {
    const double scale = static_cast<double>(kPriceScale);
    const auto price = static_cast<int64_t>(gain.saved_per_byte_ns * kBlockBytes * scale);
    const auto most = static_cast<int64_t>(gain.most_ns * scale);
    if (price <= 0 || most <= 0) return;
    const auto useful = static_cast<int64_t>(gain.useful_bytes / kBlockBytes);
    const int64_t blocks = std::min(consumer.blocks, useful);
    const int64_t full = std::min(blocks, most / price);
    consumer.first_demand = static_cast<int32_t>(problem_.demand_consumer.size());
    const auto index = static_cast<int32_t>(problem_.consumers.size());
    const auto add = [&](int64_t capacity, int64_t profit) {
      if (capacity <= 0 || profit <= 0) return;
      problem_.flow.demands.push_back({-1, capacity, profit});
      problem_.demand_consumer.push_back(index);
      ++consumer.demands;
    };
    add(full, price);
    if (full < blocks) add(1, most - full * price);
  }

  // A node before every operator that consumes, and one before every operator during which blocks
  // arrive; the edge behind a node spans the operators up to the next node.
  void lay_out_ring() {
    FlowProblem& flow = problem_.flow;
    std::vector<int32_t> node_op;  // operator that the node stands before
    size_t consumer = 0, arrival = 0;
    for (int32_t op = 0; op < static_cast<int32_t>(step_.ops.size()); ++op) {
      if (consumer < problem_.consumers.size() && problem_.consumers[consumer].ordinal == op) {
        const Consumer& here = problem_.consumers[consumer++];
        for (int32_t d = 0; d < here.demands; ++d) {
          flow.demands[static_cast<size_t>(here.first_demand + d)].node =
              static_cast<int32_t>(node_op.size());
        }
        node_op.push_back(op);
      }
      if (arrival == arrivals_.size() || arrivals_[arrival].op != op) continue;
      // Not the consumer's node: what arrives while an operator runs is too late for it.
      for (; arrival < arrivals_.size() && arrivals_[arrival].op == op; ++arrival) {
        add_supply(arrivals_[arrival], static_cast<int32_t>(node_op.size()));
      }
      node_op.push_back(op);
    }
    for (size_t node = 0; node < node_op.size(); ++node) add_edge(node_op, node);
  }

  void add_supply(const Arrival& arrival, int32_t node) {
    const auto window = std::lower_bound(
        problem_.windows.begin(), problem_.windows.end(), arrival.window_op,
        [](const Window& item, int32_t ordinal) { return item.ordinal < ordinal; });
    const auto index = static_cast<int32_t>(problem_.flow.supplies.size());
    const int64_t cost =
        std::llround(arrival.cost_ns * kBlockBytes * static_cast<double>(kPriceScale));
    problem_.flow.supplies.push_back({node, arrival.blocks, cost});
    problem_.supply_window.push_back(static_cast<int32_t>(window - problem_.windows.begin()));
    problem_.supply_op.push_back(arrival.op);
    const bool own = arrival.op == window->ordinal;
    window->supplies.insert(own ? window->supplies.begin() : window->supplies.end(), index);
  }

  void add_edge(const std::vector<int32_t>& node_op, size_t node) {
    const auto count = static_cast<int32_t>(step_.ops.size());
    const bool last = node + 1 == node_op.size();
    const int32_t from = node_op[node], to = last ? node_op[0] + count : node_op[node + 1];
    int64_t traffic = 0;
    for (int32_t op = from; op < to; ++op) {
      traffic = std::max(traffic, problem_.traffic_bytes[static_cast<size_t>(op % count)]);
    }
    problem_.edge_traffic_bytes.push_back(traffic);
    problem_.flow.hold.push_back(std::max<int64_t>(0, problem_.budget_bytes - traffic) /
                                 kBlockBytes);
  }

  const std::vector<int64_t>& hit_bytes_;  // per operator; empty: none
  const FoldedStep& step_;
  const DeviceModel& device_;
  const ProblemOptions& options_;
  const PrefetchMethod* method_;
  double hot_bytes_per_s_;
  std::vector<int64_t> footprints_;
  BusyTime busy_;
  double prefetch_rate_ = 0, memory_rate_ = 0;  // bytes per ns
  double latency_left_ns_ = 0;  // of the start latency of the window at hand, behind its operator
  std::vector<Arrival> arrivals_;  // by operator, once found
  PlanProblem problem_;
};

}  // namespace

const PrefetchMethod* choose_method(const DeviceModel& device, const std::string& name) {
  if (name.empty()) return device.methods.empty() ? nullptr : &device.methods.front();
  std::string known;
  for (const PrefetchMethod& method : device.methods) {
    if (method.name == name) return &method;
    known += (known.empty() ? "" : ", ") + method.name;
  }
  throw usage_error("--method: device {} has no method {}; it has: {}", device.name, name,
                    known.empty() ? "none" : known);
}

PlanProblem build_problem(const FoldedStep& step, const DeviceModel& device,
                          const ProblemOptions& options) {
  return build_problem_beside(step, device, options, {});
}

PlanProblem build_problem_beside(const FoldedStep& step, const DeviceModel& device,
                                 const ProblemOptions& options,
                                 const std::vector<int64_t>& hit_bytes) {
  check_step(step);
  return Builder(step, device, options, hit_bytes).build();
}

}  // namespace preserve
