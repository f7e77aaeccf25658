// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/point.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "common/error.h"
#include "common/units.h"
#include "planner/explore/cell/flow_plan.h"
#include "planner/explore/cell/fused.h"
#include "planner/explore/cell/hardware.h"
#include "planner/explore/cell/layers.h"
#include "planner/problem/problem.h"
#include "planner/referee/simulator.h"
#include "planner/search/bfs.h"
#include "planner/search/plan.h"
#include "planner/workload/operator_times.h"
#include "planner/workload/workload.h"

namespace preserve {
namespace {

constexpr int64_t kHalfBytes = 2;     // activations
constexpr int64_t kLogitBytes = 4;    // of one logit, as samplers want them
constexpr double kMostDoubt = 0.002;  // of the step; then more layers are planned
constexpr double kCaches = 1.5;       // layers are kept until they are larger than so many caches
constexpr std::string_view kLayers = "layers.";

ModelConfig first_layers(const ModelConfig& model, int64_t count) {
  ModelConfig part = model;
  part.layers.resize(static_cast<size_t>(count));
  return part;
}

WorkloadSpec spec_of(const ExplorePoint& point, ModelConfig model) {
  WorkloadSpec spec;
  spec.model = std::move(model);
  spec.ranks = point.ranks;
  spec.batch = point.batch;
  spec.context = point.context;
  spec.type = point.type;
  spec.allreduce_ns = point.allreduce_ns;
  return spec;
}

// -1: not of a layer.
int64_t layer_of(std::string_view name) {
  if (!name.starts_with(kLayers)) return -1;
  int64_t layer = -1;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return layer;
}

// The step of the kept layers.
struct ShortStep {
  Workload workload;
  KeptLayers layers;
  std::vector<size_t> first;  // operator of each kept layer

  bool whole() const { return layers.left_out == 0; }
};

// Layers [from, to) of the kept ones that stand for those left out, and how often.
struct Stretch {
  int64_t from = 0, to = 0;
  double times = 0;
};

class Evaluation {
 public:
  Evaluation(const ExplorePoint& point, int64_t fewest_layers)
      : point_(point),
        // The plans of the search differ from layer to layer.
        fewest_layers_(point.search ? static_cast<int64_t>(point.model->layers.size())
                                    : fewest_layers),
        model_(changed_model(point)) {
    options_.problem.windows = WindowsMode::collective;  // on every device alike
  }

  ExploreCell run() {
    device_ = changed_device(point_);
    describe();
    try {
      evaluate();
    } catch (const Error& error) {
      const bool impossible = error.kind() == ErrorKind::not_applicable;
      cell_.status = impossible ? kExploreNotAvailable : kExploreFailed;
      cell_.reason = error.what();
    }
    return cell_;
  }

 private:
  void describe() {
    const WeightType type = point_.type.value_or(model_.mlp_weights.type);
    cell_.model = model_.name;
    cell_.device = device_.name;
    cell_.dtype = to_string(type);
    cell_.ranks = point_.ranks;
    cell_.batch = point_.batch;
    cell_.context = point_.context;
    for (const LayerShape& layer : model_.layers) {
      if (layer.attention) cell_.kv_heads = std::max(cell_.kv_heads, layer.attention->kv_heads);
    }
    cell_.cache_bytes = device_.cache_bytes;
    cell_.memory_bytes = device_.memory_bytes;
    cell_.memory_bandwidth_bytes_per_s = device_.memory_bandwidth_bytes_per_s;
    cell_.arithmetic_per_s = arithmetic_rate(device_, type);
    if (point_.network_bandwidth_bytes_per_s) {
      cell_.network_latency_ns = point_.network_latency_ns.value_or(0);
      cell_.network_bandwidth_bytes_per_s = point_.network_bandwidth_bytes_per_s;
    }
    measure_die();
    // What must fit is that of all layers, not of those kept.
    device_.memory_bytes = 0;
  }

  void measure_die() {
    if (point_.area == nullptr) return;
    const DeviceSize size{device_.cache_bytes, device_.memory_bytes,
                          device_.memory_bandwidth_bytes_per_s, device_.flops_fp16_per_s,
                          point_.network_bandwidth_bytes_per_s.value_or(0)};
    const double mm2 = area_mm2(*point_.area, size), price = cost(*point_.area, size);
    if (mm2 > 0) cell_.area_mm2 = mm2;
    if (price > 0 && std::isfinite(price)) cell_.cost = price;
  }

  void evaluate() {
    make_step(fewest_layers_);
    measure_bytes();
    if (cell_.memory_bytes > 0 && cell_.rank_bytes + cell_.workspace_bytes > cell_.memory_bytes) {
      throw not_applicable_error(
          "{} on {} in {}, batch {} and context {}, needs {} per rank and {} for the step, {} has "
          "{}",
          cell_.model, cell_.ranks, cell_.dtype, cell_.batch, cell_.context,
          format_size(cell_.rank_bytes), format_size(cell_.workspace_bytes), cell_.device,
          format_size(cell_.memory_bytes));
    }
    while (!measure_times()) make_step(2 * step_.layers.kept);
    cell_.status = kExploreDone;
  }

  // --- the step ---

  Workload generate(int64_t layers) const {
    return generate_workload(spec_of(point_, first_layers(model_, layers)), device_);
  }

  // With so many layers that neither end reaches the middle, as far as the cache tells: what is
  // still cached from an earlier use is less than it.
  void make_step(int64_t fewest) {
    const auto count = static_cast<int64_t>(model_.layers.size());
    cycle_ = find_cycle(model_.layers);
    step_.layers = keep_layers(count, cycle_, fewest);
    step_.workload = generate(step_.layers.kept);
    const WorkloadBytes& bytes = step_.workload.bytes;
    const double layer_bytes =
        static_cast<double>(bytes.weights + bytes.kv) / static_cast<double>(step_.layers.kept);
    const double needed =
        std::min(static_cast<double>(count),
                 std::ceil(kCaches * static_cast<double>(device_.cache_bytes) / layer_bytes));
    if (step_.layers.left_out > 0 && needed > static_cast<double>(step_.layers.kept)) {
      step_.layers = keep_layers(count, cycle_, static_cast<int64_t>(needed));
      step_.workload = generate(step_.layers.kept);
    }
    if (step_.whole()) return;
    shorter_ = generate(step_.layers.kept - cycle_.period);
    step_.first.assign(static_cast<size_t>(step_.layers.kept), 0);
    const FoldedStep& step = step_.workload.step;
    for (size_t i = step.ops.size(); i-- > 0;) {
      if (const int64_t layer = layer_of(step.ops[i].name); layer >= 0) {
        step_.first[static_cast<size_t>(layer)] = i;
      }
    }
  }

  Stretch stretch_of(int64_t from, int64_t to) const {
    return {from, to, static_cast<double>(step_.layers.left_out) / static_cast<double>(to - from)};
  }

  // Sum over the operators of the whole step.
  template <typename Of>
  double sum(const Stretch& stretch, Of&& of) const {
    double all = 0, part = 0;
    for (size_t i = 0; i < step_.workload.step.ops.size(); ++i) all += of(i);
    if (step_.whole()) return all;
    const size_t end = step_.first[static_cast<size_t>(stretch.to)];
    for (size_t i = step_.first[static_cast<size_t>(stretch.from)]; i < end; ++i) part += of(i);
    return all + stretch.times * part;
  }

  // From a value of the kept layers and of one period less: that of all.
  double all_layers(double kept, double shorter) const {
    if (step_.whole()) return kept;
    const int64_t periods = step_.layers.left_out / cycle_.period;  // whole ones
    return kept + (kept - shorter) * static_cast<double>(periods);
  }

  // --- bytes ---

  void measure_bytes() {
    const FoldedStep& step = step_.workload.step;
    measure_largest_layer();
    const auto allreduce = std::ranges::find_if(step.ops, [](const StepOp& op) {
      return op.collective && op.collective->function == "allreduce";
    });
    if (allreduce != step.ops.end()) cell_.allreduce_ns = finite(allreduce->dur_ns);
    int64_t widest = 0, logits = 0;
    for (const StepOp& op : step.ops) {
      if (!op.gemm) continue;
      (layer_of(op.name) >= 0 ? widest : logits) =
          std::max(layer_of(op.name) >= 0 ? widest : logits, op.gemm->n);
    }
    const int64_t width = checked_add(2 * model_.hidden, widest, "the activations");
    cell_.activation_bytes = checked_mul(checked_mul(point_.batch, width, "the activations"),
                                         kHalfBytes, "the activations");
    const int64_t vocabulary = checked_mul(logits, point_.ranks, "the logits");
    cell_.workspace_bytes = checked_add(
        cell_.activation_bytes,
        checked_mul(checked_mul(point_.batch, vocabulary, "the logits"), kLogitBytes, "the logits"),
        "the workspace");
    const double bytes = all_layers(static_cast<double>(step_.workload.bytes.total),
                                    static_cast<double>(shorter_.bytes.total));
    // Exact below 2^53, and no device holds more.
    constexpr double kMost = 9e15;
    if (bytes > kMost) throw input_error("the model's size exceeds 64 bits");
    cell_.rank_bytes = std::llround(bytes);
  }

  void measure_largest_layer() {
    struct Bytes {
      int64_t attention = 0, kv = 0, mlp = 0;
      int64_t sum() const { return attention + kv + mlp; }
    };
    std::vector<Bytes> layers(static_cast<size_t>(step_.layers.kept));
    const FoldedStep& step = step_.workload.step;
    for (size_t i = 0; i < step.ops.size(); ++i) {
      const StepOp& op = step.ops[i];
      const int64_t layer = layer_of(op.name);
      if (layer < 0) continue;
      Bytes& bytes = layers[static_cast<size_t>(layer)];
      const std::string_view kind = step_.workload.notes[i].kind;
      if (kind == "product") {
        const bool mlp = op.name.find(".mlp.") != std::string::npos;
        (mlp ? bytes.mlp : bytes.attention) += read_bytes(op);
      } else if (kind == "attention" || kind == "state") {
        bytes.kv += read_bytes(op);
      }
    }
    const auto largest = std::ranges::max_element(layers, {}, &Bytes::sum);
    cell_.attention_weight_bytes = largest->attention;
    cell_.kv_bytes = largest->kv;
    cell_.mlp_bytes = largest->mlp;
  }

  // --- times ---

  double finite(double dur_ns) const {
    if (std::isfinite(dur_ns)) return dur_ns;
    throw input_error("{} on {}: the step never ends: the device states a rate close to 0",
                      cell_.model, cell_.device);
  }

  bool measure_times() {
    const FoldedStep& step = step_.workload.step;
    // Of what no plan changes, any period does.
    const Stretch any = stretch_of(cycle_.head, cycle_.head + cycle_.period);
    cell_.baseline_step_ns = finite(sum(any, [&](size_t i) { return step.ops[i].dur_ns; }));
    Referee referee(step, device_, {});
    const double shorter_hot_ns =
        step_.whole() ? 0 : Referee(shorter_.step, device_, {}).all_hot_step_ns();
    cell_.all_hot_step_ns = all_layers(referee.all_hot_step_ns(), shorter_hot_ns);
    cell_.bfs_step_ns = cell_.flow_step_ns = cell_.fused_step_ns = cell_.baseline_step_ns;
    if (point_.ranks == 1) return true;
    const std::vector<double> saved_ns = fused_savings_ns(step, device_, point_.allreduce_ns);
    cell_.fused_step_ns -= sum(any, [&](size_t i) { return saved_ns[i]; });
    return plan(referee);
  }

  struct Judged {
    double step_ns = 0;
    int64_t bytes = 0;
    double doubt_ns = 0;  // what the imbalance of the stretch may have cost or gained
  };

  // False: the middle of so few layers does not tell the time of the others.
  bool plan(Referee& referee) {
    const FoldedStep& step = step_.workload.step;
    const SolvedProblem recorded = solve(build_problem(step, device_, options_.problem));
    const Judged bfs = plan_by(plan_bfs(step, recorded.problem), referee);
    const Judged flow =
        plan_by(point_.search ? searched_windows()
                              : flow_windows(step, device_, options_, recorded, referee),
                referee);
    const double most_ns = kMostDoubt * cell_.baseline_step_ns;
    if (bfs.doubt_ns > most_ns || flow.doubt_ns > most_ns) return false;
    cell_.bfs_step_ns = bfs.step_ns;
    cell_.bfs_bytes = bfs.bytes;
    // Doing nothing and the plan of bfs are among those that flow chooses from.
    for (const Judged& other : {bfs, flow}) {
      if (other.step_ns >= cell_.flow_step_ns) continue;
      cell_.flow_step_ns = other.step_ns;
      cell_.flow_bytes = other.bytes;
    }
    return true;
  }

  Judged plan_by(std::vector<PlannedWindow> windows, Referee& referee) const {
    Plan plan;
    plan.windows = std::move(windows);
    return used_windows(plan) == 0 ? Judged{cell_.baseline_step_ns} : judge(plan, referee);
  }

  // The best of all that preserve-tune would offer with the device's first method.
  std::vector<PlannedWindow> searched_windows() const {
    PlanOptions options = options_;  // the method that all other figures of the cell are of
    if (const PrefetchMethod* first = choose_method(device_, {})) {
      options.problem.method = full_name(issue_method(*first));
    }
    Schedule schedule = make_schedule(step_.workload.step, device_, options).schedule;
    Plan* best = &schedule.plan;
    for (Plan& other : schedule.candidates) {
      if (other.prefetch_step_ns < best->prefetch_step_ns) best = &other;
    }
    return std::move(best->windows);
  }

  Judged judge(const Plan& plan, Referee& referee) const {
    Judged judged;
    const FoldedStep& step = step_.workload.step;
    const SimulationResult result = referee.judge(plan);
    // Fixed costs of the windows, and their bytes, by the operators that they are at.
    std::vector<double> cost_ns(step.ops.size(), 0), bytes(step.ops.size(), 0);
    for (const PlannedWindow& window : plan.windows) {
      const auto at = static_cast<size_t>(window.ordinal);
      if (window.used_bytes > 0) cost_ns[at] = static_cast<double>(device_.window_cost_ns);
      bytes[at] = static_cast<double>(window.used_bytes);
    }
    const Stretch stretch = most_balanced(plan);
    judged.step_ns = result.step_ns + sum(stretch, [&](size_t i) { return cost_ns[i]; });
    judged.bytes = std::llround(sum(stretch, [&](size_t i) { return bytes[i]; }));
    if (step_.whole()) return judged;
    const auto start_ns = [&](int64_t layer) {
      return result.ops[step_.first[static_cast<size_t>(layer)]].start_ns;
    };
    judged.step_ns += stretch.times * (start_ns(stretch.to) - start_ns(stretch.from));
    judged.doubt_ns = stretch.times * std::fabs(imbalance(plan, stretch)) * saved_per_byte_ns();
    return judged;
  }

  // Bytes that a stretch reads of what was fetched, less those that it fetches. Above 0 it lives on
  // a stock that the ends of the step laid in once, which more layers would not find.
  double imbalance(const Plan& plan, const Stretch& stretch) const {
    const size_t begin = step_.first[static_cast<size_t>(stretch.from)],
                 end = step_.first[static_cast<size_t>(stretch.to)];
    const auto inside = [&](int32_t ordinal) {
      return static_cast<size_t>(ordinal) >= begin && static_cast<size_t>(ordinal) < end;
    };
    double more = 0;
    for (const PlannedWindow& window : plan.windows) {
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        const auto bytes = static_cast<double>(prefetch.length_bytes);
        if (inside(window.ordinal)) more -= bytes;
        if (inside(prefetch.consumer_ordinal)) more += bytes;
      }
    }
    return more;
  }

  double saved_per_byte_ns() const {
    return std::max(0.0, kNsPerS / device_.memory_bandwidth_bytes_per_s -
                             kNsPerS / device_.cache_read_bandwidth_bytes_per_s);
  }

  // The stretch that lives on what it fetches itself, or comes nearest to it; the longest, then the
  // last, of those that are alike.
  Stretch most_balanced(const Plan& plan) const {
    if (step_.whole()) return {};
    Stretch best;
    double least = 0;
    const int64_t last = step_.layers.kept - 1;
    for (int64_t to = last; to > cycle_.head; --to) {
      for (int64_t from = to - cycle_.period; from >= cycle_.head; from -= cycle_.period) {
        const Stretch stretch = stretch_of(from, to);
        const double size =
            std::fabs(imbalance(plan, stretch)) / static_cast<double>(to - from) + kBlockBytes;
        const bool longer = size <= least && to - from > best.to - best.from;
        if (best.to > 0 && size >= least && !longer) continue;
        best = stretch;
        least = size;
      }
    }
    return best;
  }

  const ExplorePoint& point_;
  int64_t fewest_layers_;
  ModelConfig model_;
  DeviceModel device_;
  PlanOptions options_;
  LayerCycle cycle_;
  ShortStep step_;
  Workload shorter_;  // one period less
  ExploreCell cell_;
};

}  // namespace

ExploreCell evaluate(const ExplorePoint& point, int64_t fewest_layers) {
  return Evaluation(point, fewest_layers).run();
}

}  // namespace preserve
