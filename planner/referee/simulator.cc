// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/simulator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/as_index.h"
#include "common/error.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr int32_t kMostSteps = 16;
constexpr double kSteady = 1e-9;  // relative difference of states that are alike

// --- what may be wrong with the inputs -----------------------------------------------------------

double positive_rate(const DeviceModel& device, double rate_bytes_per_s, const char* what) {
  if (std::isfinite(rate_bytes_per_s) && rate_bytes_per_s > 0) return rate_bytes_per_s / kNsPerS;
  throw input_error("device {}: {} is {}: it must be positive", device.name, what,
                    rate_bytes_per_s);
}

void check_accesses(const FoldedStep& step) {
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      if (access.tensor < 0 || as_index(access.tensor) >= step.tensors.size()) {
        throw input_error("{}: operator {} ({}) uses tensor {}, the step has {}", step.trace_file,
                          op.ordinal, printable(op.name), access.tensor, step.tensors.size());
      }
      if (access.offset_bytes < 0 || access.bytes < 0) {
        throw input_error("{}: operator {} ({}) uses {} bytes at offset {} of {}", step.trace_file,
                          op.ordinal, printable(op.name), access.bytes, access.offset_bytes,
                          printable(step.tensors[as_index(access.tensor)].name));
      }
      checked_add(access.offset_bytes, access.bytes, "the end of an access");
    }
  }
}

const FoldedStep& checked(const FoldedStep& step, const SimulationOptions& options) {
  if (step.ops.empty()) throw input_error("{}: the step has no operators", step.trace_file);
  if (options.link_latency_ns < 0) throw input_error("the link latency is negative");
  check_accesses(step);
  return step;
}

// --- the plan as the prefetch stream executes it -------------------------------------------------

const PrefetchMethod* method_of(const DeviceModel& device, const SimulationOptions& options) {
  const PrefetchMethod* found = find_method(device, options.method, options.placement);
  if (found != nullptr || (options.method.empty() && options.placement.empty())) return found;
  throw input_error("device {} has no prefetch method {} {}: plan again for this device",
                    device.name, options.method, options.placement);
}

// At which reads that hit are served.
double cache_rate(const DeviceModel& device, const PrefetchMethod* method) {
  if (method != nullptr && method->hit_read_bandwidth_bytes_per_s > 0) {
    return method->hit_read_bandwidth_bytes_per_s / kNsPerS;
  }
  return positive_rate(device, device.cache_read_bandwidth_bytes_per_s, "cache read bandwidth");
}

EngineHardware hardware_of(const DeviceModel& device, const PrefetchMethod* method) {
  EngineHardware hardware;
  hardware.memory_bytes_per_ns =
      positive_rate(device, device.memory_bandwidth_bytes_per_s, "memory bandwidth");
  hardware.slowdown_per_byte_ns = device.slowdown_per_byte_ns;
  if (!(hardware.slowdown_per_byte_ns >= 0) || !std::isfinite(hardware.slowdown_per_byte_ns)) {
    throw input_error("device {}: slowdown_per_byte_ns is {}", device.name,
                      hardware.slowdown_per_byte_ns);
  }
  if (method != nullptr) {
    for (const OperatorClass of : kOperatorClasses) {
      const double ns = method->operator_slowdown_per_byte_ns[of].value_or(0);
      if (ns >= 0 && std::isfinite(ns)) continue;
      throw input_error("device {}: operator_slowdown_per_byte_ns of {} operators is {}",
                        device.name, to_string(of), ns);
    }
    hardware.stream.rate_bytes_per_ns =
        std::min(hardware.memory_bytes_per_ns,
                 positive_rate(device, method->bandwidth_bytes_per_s, "prefetch bandwidth"));
    hardware.stream.cached_rate_bytes_per_ns =
        std::max(hardware.stream.rate_bytes_per_ns, cache_rate(device, method));
    hardware.stream.start_latency_ns = static_cast<double>(method->start_latency_ns);
    hardware.stream.stops_with_window = !outlasts_window(device);
    hardware.operator_slowdown_per_byte_ns = method->operator_slowdown_per_byte_ns;
  }
  return hardware;
}

using TensorsByName = std::unordered_map<std::string_view, int32_t>;

TensorsByName tensors_by_name(const FoldedStep& step) {
  TensorsByName tensors(step.tensors.size());
  for (size_t i = 0; i < step.tensors.size(); ++i) {
    tensors.emplace(step.tensors[i].name, static_cast<int32_t>(i));
  }
  return tensors;
}

class PlanReader {
 public:
  PlanReader(const FoldedStep& step, const TensorsByName& tensors, const Plan& plan)
      : step_(step), tensors_(tensors), plan_(plan) {}

  PrefetchOrders read() const {
    PrefetchOrders orders;
    for (const PlannedWindow& window : plan_.windows) {
      check_operator(window.ordinal, window.name, "window");
      if (!orders.windows.empty() && window.ordinal <= orders.windows.back().ordinal) {
        throw input_error("the plan's windows must ascend, but {} follows {}", window.ordinal,
                          orders.windows.back().ordinal);
      }
      orders.windows.push_back(
          {window.ordinal, orders.prefetches.size(), window.prefetches.size()});
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        orders.prefetches.push_back(read(window, prefetch));
      }
    }
    return orders;
  }

 private:
  void check_operator(int32_t ordinal, const std::string& name, const char* what) const {
    if (ordinal < 0 || as_index(ordinal) >= step_.ops.size()) {
      throw input_error("the plan's {} is operator {}, but the step has {}: plan again", what,
                        ordinal, step_.ops.size());
    }
    const std::string& actual = step_.ops[as_index(ordinal)].name;
    if (!name.empty() && name != actual) {
      throw input_error("the plan's {} is operator {} {}, in the step it is {}: plan again", what,
                        ordinal, printable(name), printable(actual));
    }
  }

  Prefetch read(const PlannedWindow& window, const PlannedPrefetch& planned) const {
    check_operator(planned.consumer_ordinal, planned.consumer, "consumer");
    const auto tensor = tensors_.find(planned.tensor);
    if (tensor == tensors_.end()) {
      throw input_error("the plan prefetches {}, which the step does not use: plan again",
                        printable(planned.tensor));
    }
    const StepOp& consumer = step_.ops[as_index(planned.consumer_ordinal)];
    const int64_t size = step_.tensors[as_index(tensor->second)].bytes;
    if (planned.offset_bytes < 0 || planned.length_bytes <= 0 || planned.offset_bytes > size ||
        planned.length_bytes > size - planned.offset_bytes) {
      throw input_error("the plan prefetches {} bytes at offset {} of {}, which has {} bytes",
                        planned.length_bytes, planned.offset_bytes, printable(planned.tensor),
                        size);
    }
    const bool read = std::any_of(
        consumer.accesses.begin(), consumer.accesses.end(), [&](const StepAccess& access) {
          return access.tensor == tensor->second && access.mode == AccessMode::read;
        });
    if (!read) {
      throw input_error("the plan prefetches {} for operator {} {}, which does not read it",
                        printable(planned.tensor), planned.consumer_ordinal,
                        printable(consumer.name));
    }
    if (planned.next_step != (planned.consumer_ordinal <= window.ordinal)) {
      throw input_error(
          "the plan's window {} prefetches for operator {} of the {} step: a consumer "
          "after its window is in the same step, any other in the next",
          window.ordinal, planned.consumer_ordinal, planned.next_step ? "next" : "same");
    }
    return {tensor->second, planned.offset_bytes, planned.offset_bytes + planned.length_bytes,
            planned.consumer_ordinal, planned.next_step};
  }

  const FoldedStep& step_;
  const TensorsByName& tensors_;
  const Plan& plan_;
};

// --- the simulations -----------------------------------------------------------------------------

bool same(double a, double b) {
  return std::fabs(a - b) <= kSteady * std::max({1.0, a, b});
}

bool same(const StepEngine::State& a, const StepEngine::State& b) {
  const auto same_bytes = [](double x, double y) { return same(x, y); };
  const auto same_held = [](const CacheState::Held& x, const CacheState::Held& y) {
    return x.tensor == y.tensor && x.begin == y.begin && x.end == y.end &&
           same(x.age_bytes, y.age_bytes) && same(x.fetched_bytes, y.fetched_bytes);
  };
  return std::equal(a.cached.begin(), a.cached.end(), b.cached.begin(), b.cached.end(),
                    same_held) &&
         std::equal(a.arrived_bytes.begin(), a.arrived_bytes.end(), b.arrived_bytes.begin(),
                    b.arrived_bytes.end(), same_bytes);
}

std::vector<OpModel> recorded_models(const FoldedStep& step, int64_t link_latency_ns,
                                     bool fetches_while_waiting) {
  std::vector<OpModel> models;
  models.reserve(step.ops.size());
  for (const StepOp& op : step.ops) {
    OpModel model;
    model.collective = op.kind == OpKind::collective;
    model.operator_class = operator_class(step, op);
    model.base_ns = op.dur_ns + (model.collective ? static_cast<double>(link_latency_ns) : 0.0);
    model.work_ns = fetches_while_waiting ? op.work_ns : 0;
    models.push_back(model);
  }
  return models;
}

// Splits each recorded duration into a part that does not depend on where the bytes come from and a
// part that does: reads that missed at memory bandwidth, reads that hit at cache bandwidth. For an
// operator that was faster than these rates allow, the bytes part is scaled to its duration.
void calibrate(const FoldedStep& step, const DeviceModel& device, const EngineStep& baseline,
               double memory_bytes_per_ns, double cache_bytes_per_ns,
               std::vector<OpModel>& models) {
  const double miss_ns = 1 / memory_bytes_per_ns;
  const double hit_ns = std::min(miss_ns, 1 / cache_bytes_per_ns);
  for (size_t i = 0; i < models.size(); ++i) {
    OpModel& model = models[i];
    model.floor_ns = model.base_ns;
    if (model.collective) continue;
    double read_bytes = 0;
    for (const StepAccess& access : step.ops[i].accesses) {
      if (access.mode == AccessMode::read) read_bytes += static_cast<double>(access.bytes);
    }
    model.base_hit_bytes = baseline.ops[i].hit_bytes;
    const double missed_bytes = std::max(0.0, read_bytes - model.base_hit_bytes);
    const double bytes_ns = missed_bytes * miss_ns + model.base_hit_bytes * hit_ns;
    const double scale = bytes_ns > model.base_ns ? model.base_ns / bytes_ns : 1.0;
    model.saved_per_hit_byte_ns = scale * (miss_ns - hit_ns);
    model.hit_byte_ns = scale * hit_ns;
    const double known_floor_ns = std::isfinite(step.ops[i].floor_ns) ? step.ops[i].floor_ns : 0.0;
    model.floor_ns = std::min(
        model.base_ns, std::max({static_cast<double>(device.op_floor_ns), known_floor_ns,
                                 model.base_ns - missed_bytes * model.saved_per_hit_byte_ns}));
  }
}

void fill_result(const Plan& plan, const PrefetchOrders& orders, const std::vector<OpModel>& models,
                 const EngineStep& step, SimulationResult& result) {
  for (size_t i = 0; i < models.size(); ++i) {
    result.ops.push_back({.start_ns = step.ops[i].start_ns,
                          .dur_ns = step.ops[i].dur_ns,
                          .baseline_dur_ns = models[i].base_ns,
                          .hit_bytes = step.ops[i].hit_bytes,
                          .baseline_hit_bytes = models[i].base_hit_bytes});
  }
  std::vector<double> hit_of_op(models.size());
  for (size_t i = 0; i < orders.prefetches.size(); ++i) {
    hit_of_op[as_index(orders.prefetches[i].consumer)] += step.hit_prefetch_bytes[i];
  }
  size_t index = 0;
  for (size_t w = 0; w < plan.windows.size(); ++w) {
    for (size_t p = 0; p < plan.windows[w].prefetches.size(); ++p, ++index) {
      const Prefetch& prefetch = orders.prefetches[index];
      const auto op = as_index(prefetch.consumer);
      SimulatedPrefetch outcome;
      outcome.window = static_cast<int32_t>(w);
      outcome.position = static_cast<int32_t>(p);
      outcome.arrived_bytes = step.arrived_bytes[index];
      outcome.late_bytes =
          static_cast<double>(prefetch.end - prefetch.begin) - outcome.arrived_bytes;
      outcome.hit_bytes = step.hit_prefetch_bytes[index];
      outcome.evicted_bytes = std::max(0.0, outcome.arrived_bytes - outcome.hit_bytes);
      const double saved_ns = models[op].base_ns - step.ops[op].dur_ns;
      if (hit_of_op[op] > 0) outcome.saved_ns = saved_ns * outcome.hit_bytes / hit_of_op[op];
      result.arrived_bytes += outcome.arrived_bytes;
      result.late_bytes += outcome.late_bytes;
      result.evicted_bytes += outcome.evicted_bytes;
      result.prefetches.push_back(outcome);
    }
  }
}

}  // namespace

Referee::Referee(const FoldedStep& step, const DeviceModel& device,
                 const SimulationOptions& options)
    : step_(step),
      order_(recorded_order(checked(step, options))),
      method_(method_of(device, options)),
      hardware_(hardware_of(device, method_)),
      models_(recorded_models(step, options.link_latency_ns,
                              method_ != nullptr && fetches_while_waiting(device, *method_))),
      device_(device),
      tensors_(tensors_by_name(step)),
      engine_(step, order_, device, hardware_, models_) {
  static const PrefetchOrders kNone;
  engine_.follow(kNone);
  const Steady baseline = run_until_steady();
  engine_.keep_state();
  baseline_step_ns_ = baseline.step_ns;
  calibrate(step, device, *baseline.last, hardware_.memory_bytes_per_ns,
            cache_rate(device, method_), models_);
  all_hot_step_ns_ = run_all_hot();
}

double Referee::run_all_hot() const {
  std::vector<OpModel> hot = models_;
  for (OpModel& model : hot) {
    model = {.base_ns = model.floor_ns, .floor_ns = model.floor_ns, .collective = model.collective};
  }
  return StepEngine(step_, order_, device_, hardware_, hot).run().step_ns;
}

PrefetchOrders Referee::orders_of(const Plan& plan) const {
  PrefetchOrders orders = PlanReader(step_, tensors_, plan).read();
  if (method_ == nullptr && !orders.prefetches.empty()) {
    throw input_error("device {} has no prefetch method, but the plan prefetches", device_.name);
  }
  return orders;
}

Referee::Steady Referee::run(const PrefetchOrders& orders) {
  engine_.restore_state();
  engine_.follow(orders);
  return run_until_steady();
}

Referee::Steady Referee::glance(const PrefetchOrders& orders, bool exactly) {
  const bool same_arrivals = engine_.follow(orders);
  if (!steady_) return run_until_steady();
  if (!same_arrivals) {
    if (exactly || hardware_.stream.stops_with_window) {
      engine_.run();
    } else {
      engine_.assume_arrived();
    }
  }
  const EngineStep& step = engine_.run();
  return {step.step_ns, true, &step};
}

Referee::Steady Referee::run_until_steady() {
  // The first step finds the cache of another plan and no prefetches of a step before it.
  std::vector<double> step_times_ns;
  Steady run;
  StepEngine::State before = engine_.state();
  while (step_times_ns.size() < kMostSteps && !run.steady) {
    run.last = &engine_.run();
    StepEngine::State after = engine_.state();
    run.steady = same(before, after);
    before = std::move(after);
    step_times_ns.push_back(run.last->step_ns);
  }
  run.step_ns = step_times_ns.back();
  steady_ = run.steady;
  if (!run.steady) {
    const auto half = step_times_ns.begin() + kMostSteps / 2;
    run.step_ns = std::accumulate(half, step_times_ns.end(), 0.0) /
                  static_cast<double>(step_times_ns.end() - half);
  }
  return run;
}

SimulationResult Referee::judge(const Plan& plan, const PrefetchOrders& orders) {
  const Steady planned = run(orders);
  SimulationResult result;
  result.baseline_step_ns = baseline_step_ns_;
  result.step_ns = planned.step_ns;
  result.all_hot_step_ns = all_hot_step_ns_;
  result.collective_slowdown_ns = planned.last->collective_slowdown_ns;
  result.redundant_bytes = planned.last->redundant_bytes;
  result.steady = planned.steady;
  fill_result(plan, orders, models_, *planned.last, result);
  return result;
}

SimulationResult simulate(const FoldedStep& step, const DeviceModel& device, const Plan& plan,
                          const SimulationOptions& options) {
  return Referee(step, device, options).judge(plan);
}

}  // namespace preserve
