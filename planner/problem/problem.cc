// SPDX-License-Identifier: Apache-2.0
#include "planner/problem/problem.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/as_index.h"
#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/problem/candidates.h"
#include "planner/problem/read_gain.h"
#include "planner/problem/windows.h"

namespace preserve {

namespace {

// Times beyond this (almost 3 hours) are not a decode step; their prices would not fit the
// integers.
constexpr double kLongestStepNs = 1e13;

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
        "{}: operator {} ({}) starts at {} ns and lasts {} ns: impossible for a decode step; "
        "record it again, or check the importer's time unit",
        step.trace_file, op.ordinal, printable(op.name), op.start_ns, op.dur_ns);
  }
  for (const StepAccess& access : op.accesses) {
    if (access.tensor < 0 || as_index(access.tensor) >= step.tensors.size() ||
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
      const TensorRole role = step.tensors[as_index(access.tensor)].role;
      named = named || role == TensorRole::weight || role == TensorRole::kv;
    }
  }
  if (!std::isfinite(step.wall_ns) || step.wall_ns < 0 || step.wall_ns > kLongestStepNs ||
      sum_ns > kLongestStepNs) {
    throw input_error(
        "{}: the step lasts {} ns and its operators {} ns together: impossible for a decode step",
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
        "the weights and the KV-cache with NVTX memory regions (layers.0.mlp.up.weight) inside "
        "ranges that carry the module's name (layers.0.mlp.up)",
        step.trace_file);
  }
}

int64_t choose_budget(const DeviceModel& device, const std::optional<int64_t>& wanted) {
  if (!wanted) return device.cache_budget_bytes;
  if (*wanted <= 0) {
    throw usage_error(
        "invalid --budget 0: a budget of zero leaves nothing to plan: expected at least {} bytes; "
        "without the option the device's budget ({}) is used",
        kBlockBytes, format_size(device.cache_budget_bytes));
  }
  if (*wanted > device.cache_bytes) {
    throw usage_error("invalid --budget: {} is more than the cache of {}: expected at most {}",
                      format_size(*wanted), device.name, format_size(device.cache_bytes));
  }
  if (*wanted < kBlockBytes) {
    throw usage_error(
        "invalid --budget: {} bytes are less than the smallest slice: expected at least {} bytes",
        *wanted, kBlockBytes);
  }
  return *wanted;
}

// --- what the operators leave in the cache
// --------------------------------------------------------

// Bytes that an operator streams through the cache, whatever part of them was prefetched.
int64_t footprint(const StepOp& op, double hot_bytes_per_s, const std::string& what) {
  int64_t bytes = 0;
  for (const StepAccess& access : op.accesses) bytes = checked_add(bytes, access.bytes, what);
  if (op.accesses.empty() && op.collective && op.collective->bytes) {
    bytes = std::max<int64_t>(0, *op.collective->bytes);
  }
  if (op.kind == OpKind::collective) return bytes;
  // No more can have passed than the cache itself delivers in the recorded time.
  const double most = std::max(0.0, op.dur_ns * hot_bytes_per_s / kNsPerS);
  return most < static_cast<double>(bytes) ? static_cast<int64_t>(most) : bytes;
}

// What is held beyond that is lost.
int64_t cached_part(const DeviceModel& device, int64_t budget_bytes) {
  const double cached = most_cached_bytes(device);
  return static_cast<double>(budget_bytes) > cached ? static_cast<int64_t>(cached) : budget_bytes;
}

// Of the budget, and the points of the survival curve below it, that at which most is expected to
// survive until it is read.
int64_t most_worth_holding(const DeviceModel& device, int64_t budget_bytes) {
  const double age = waiting_age(device);
  double most = static_cast<double>(budget_bytes);
  double survives = most * survival_at(device, age * most);
  const double limit = most;
  for (const SurvivalPoint& point : device.survival) {
    const double held = static_cast<double>(point.footprint_bytes) / age;
    if (held > limit || held * point.hit_fraction <= survives) continue;
    most = held;
    survives = held * point.hit_fraction;
  }
  return static_cast<int64_t>(most);
}

// --- the builder ---------------------------------------------------------------------------------

class Builder {
 public:
  Builder(const FoldedStep& step, const DeviceModel& device, const ProblemOptions& options,
          const AssumedPlan& assumed)
      : assumed_(assumed),
        step_(step),
        device_(device),
        options_(options),
        method_(choose_method(device, options.method)),
        hot_bytes_per_s_(hot_read_rate(device, method_)) {}

  PlanProblem build() {
    problem_.budget_bytes = cached_part(device_, choose_budget(device_, options_.budget_bytes));
    problem_.held_bytes = most_worth_holding(device_, problem_.budget_bytes);
    describe_step();
    if (method_ != nullptr) {
      WindowSupplies found =
          find_windows(step_, device_, *method_, hot_bytes_per_s_, options_, assumed_);
      problem_.windows = std::move(found.windows);
      arrivals_ = std::move(found.arrivals);
    }
    measure_room();
    find_consumers();
    lay_out_ring();
    check_flow_problem(problem_.flow);
    return std::move(problem_);
  }

 private:
  void describe_step() {
    ProblemNotes& notes = problem_.notes;
    problem_.baseline_step_ns = step_.wall_ns;
    std::vector<double> stream_end(step_.streams.size() + 1, 0);
    for (const StepOp& op : step_.ops) {
      if (op.kind == OpKind::collective) {
        problem_.baseline_step_ns += static_cast<double>(options_.link_latency_ns);
        const bool at_work = method_ != nullptr && fetches_while_waiting(device_, *method_);
        notes.collective_work_ns += at_work ? op.work_ns : 0;
      }
      notes.zero_duration_operators += op.dur_ns <= 0;
      notes.operators_without_bytes += op.kind == OpKind::compute && op.accesses.empty();
      double& end = stream_end[std::min(as_index(std::max(op.stream, 0)), step_.streams.size())];
      notes.overlapping_operators += op.start_ns < end;
      end = std::max(end, op.start_ns + op.dur_ns);
    }
  }

  // What the cache holds beside what has streamed through it since the last window began, up to and
  // including each operator. Bytes held over the operator are at least as old, so in a cache that
  // forgets the least recently used first they survive only together with all of it.
  void measure_room() {
    const size_t count = step_.ops.size();
    footprints_.reserve(count);
    int64_t total = 0;
    const std::string of_operator = step_.trace_file + ": bytes of an operator";
    const std::string of_step = step_.trace_file + ": bytes of the step";
    for (const StepOp& op : step_.ops) {
      footprints_.push_back(footprint(op, hot_bytes_per_s_, of_operator));
      total = checked_add(total, footprints_.back(), of_step);
    }
    checked_add(total, total, of_step);
    problem_.room_bytes.assign(count, problem_.held_bytes);
    if (problem_.windows.empty()) return;  // nothing is ever held
    std::vector<uint8_t> opens(count, 0);
    for (const Window& window : problem_.windows) opens[as_index(window.ordinal)] = 1;
    int64_t since = 0;
    for (size_t walked = 0; walked < count; ++walked) {
      const size_t i = (as_index(problem_.windows.front().ordinal) + walked) % count;
      since = footprints_[i] + (opens[i] ? 0 : since);
      problem_.room_bytes[i] = problem_.held_bytes - since;
    }
    // A cache that forgets gradually holds more than the rule above finds room for.
    for (size_t i = 0; i < assumed_.held_bytes.size(); ++i) {
      problem_.room_bytes[i] = std::max(problem_.room_bytes[i], assumed_.held_bytes[i]);
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
      PlanConsumer consumer;
      consumer.ordinal = static_cast<int32_t>(i);
      consumer.slices = std::move(slices[i]);
      for (const Slice& slice : consumer.slices) consumer.blocks += slice.blocks;
      add_demands(consumer, gain);
      if (consumer.demands > 0) problem_.consumers.push_back(std::move(consumer));
    }
    problem_.all_hot_step_ns = std::max(0.0, problem_.baseline_step_ns - all_saved_ns);
  }

  // Concave: full price until the operator's floor is reached, then one block for what is left.
  void add_demands(PlanConsumer& consumer, const ReadGain& gain) {
    const double scale = static_cast<double>(kPriceScale);
    const double kept =
        assumed_.kept_share.empty() ? 1 : assumed_.kept_share[as_index(consumer.ordinal)];
    const auto whole_price = static_cast<int64_t>(gain.saved_per_byte_ns * kBlockBytes * scale);
    const auto most = static_cast<int64_t>(gain.most_ns * scale);
    if (whole_price <= 0 || most <= 0) return;
    const auto price =
        std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(whole_price) * kept));
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
  // arrive; the edge after a node spans the operators up to the next node.
  void lay_out_ring() {
    FlowProblem& flow = problem_.flow;
    std::vector<int32_t> node_op;  // operator that follows the node
    size_t consumer = 0, arrival = 0;
    for (int32_t op = 0; op < static_cast<int32_t>(step_.ops.size()); ++op) {
      if (consumer < problem_.consumers.size() && problem_.consumers[consumer].ordinal == op) {
        const PlanConsumer& here = problem_.consumers[consumer++];
        for (int32_t d = 0; d < here.demands; ++d) {
          flow.demands[as_index(here.first_demand + d)].node = static_cast<int32_t>(node_op.size());
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
    int64_t room = std::numeric_limits<int64_t>::max();
    for (int32_t op = from; op < to; ++op) {
      room = std::min(room, problem_.room_bytes[as_index(op % count)]);
    }
    problem_.edge_room_bytes.push_back(room);
    problem_.flow.hold.push_back(std::max<int64_t>(0, room) / kBlockBytes);
  }

  const AssumedPlan& assumed_;
  const FoldedStep& step_;
  const DeviceModel& device_;
  const ProblemOptions& options_;
  const PrefetchMethod* method_;
  double hot_bytes_per_s_;
  std::vector<int64_t> footprints_;
  std::vector<Arrival> arrivals_;  // by operator
  PlanProblem problem_;
};

}  // namespace

const char* to_string(WindowsMode mode) {
  if (mode == WindowsMode::automatic) return "auto";
  return mode == WindowsMode::idle ? "idle" : "collective";
}

WindowsMode settled_windows(const DeviceModel& device, const ProblemOptions& options) {
  if (options.windows != WindowsMode::automatic) return options.windows;
  const PrefetchMethod* method = choose_method(device, options.method);
  const bool any = method != nullptr && method->operator_slowdown_per_byte_ns.any();
  return any && outlasts_window(device) ? WindowsMode::automatic : WindowsMode::collective;
}

const PrefetchMethod* choose_method(const DeviceModel& device, const std::string& name) {
  std::string known;
  for (const PrefetchMethod& method : device.methods) {
    const std::string full = full_name(issue_method(method));
    if (name == full) return &method;
    known += (known.empty() ? "" : ", ") + full;
  }
  const PrefetchMethod* found = find_method(device, name);
  if (found != nullptr || name.empty()) return found;
  throw usage_error("invalid --method '{1}': device {0} has: {2}", device.name, name,
                    known.empty() ? "none" : known);
}

std::string full_name(const IssueMethod& method) {
  return method.name.empty() ? "" : method.name + "/" + method.placement;
}

IssueMethod issue_method(const PrefetchMethod& method) {
  IssueMethod issue;
  issue.name = method.name;
  issue.placement = method.placement;
  issue.chunk_bytes = method.chunk_bytes;
  issue.ctas = method.ctas;
  if (!method.eviction.empty()) issue.eviction = method.eviction;
  if (!method.issue.empty()) issue.issue = method.issue;
  return issue;
}

PlanProblem build_problem(const FoldedStep& step, const DeviceModel& device,
                          const ProblemOptions& options) {
  check_step(step);
  return build_problem_given(step, device, options, {});
}

PlanProblem build_problem_given(const FoldedStep& step, const DeviceModel& device,
                                const ProblemOptions& options, const AssumedPlan& assumed) {
  return Builder(step, device, options, assumed).build();
}

}  // namespace preserve
