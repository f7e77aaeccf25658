// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/step/plan.h"

#include <algorithm>
#include <limits>

namespace preserve::cuda {
namespace {

bool is_stamped(const GpuNode& node) {
  return !is_library(node) && node.kind != GpuNodeKind::prefetch;
}

class Planner {
 public:
  explicit Planner(const GpuGraph& graph) : graph_(graph) {}

  StepPlan plan() {
    plan_.spans.resize(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) add_node(static_cast<int>(i));
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (is_library(graph_.nodes[i])) find_end(i);
    }
    add_closing();
    return std::move(plan_);
  }

 private:
  int add(StepNode node) {
    plan_.nodes.push_back(std::move(node));
    return static_cast<int>(plan_.nodes.size()) - 1;
  }
  int add_slot(int64_t wait_before_ns) {
    plan_.wait_before_ns.push_back(wait_before_ns);
    return plan_.slots++;
  }

  void add_node(int index) {
    const GpuNode& node = graph_.nodes[index];
    StepNode step{.node = index, .with_start_of = node.with_start_of, .stream = node.stream};
    for (const int before : node.after) step.after.push_back(place_[before]);
    NodeSpan& span = plan_.spans[index];
    if (is_stamped(node)) {
      step.slot = add_slot(node.wait_before_ns);
      span = {{{step.slot, Moment::start}}, {{step.slot, Moment::end}}};
    } else if (is_library(node)) {
      find_start(node, step, span);
    }
    place_.push_back(add(std::move(step)));
  }

  // A library's node starts when the last that it waits for ends; if those tell nothing, a stamp
  // comes between.
  void find_start(const GpuNode& node, StepNode& step, NodeSpan& span) {
    const bool told =
        !node.after.empty() && !node.with_start_of &&
        std::ranges::all_of(step.after, [&](int before) { return plan_.nodes[before].slot >= 0; });
    if (!told) {
      StepNode stamp = step;
      stamp.role = StepRole::stamp;
      stamp.node = -1;
      stamp.slot = add_slot(0);
      step.with_start_of = false;
      step.after = {add(std::move(stamp))};
    }
    for (const int before : step.after) {
      span.from.push_back({plan_.nodes[before].slot, Moment::end});
    }
  }

  // It ends when one begins that waits for nothing else; if there is none, a stamp does, beside
  // whatever else follows.
  void find_end(size_t index) {
    const int place = place_[index];
    NodeSpan& span = plan_.spans[index];
    for (const StepNode& next : plan_.nodes) {
      if (next.slot >= 0 && !next.with_start_of && next.after == std::vector<int>{place}) {
        span.to.push_back({next.slot, Moment::begin});
      }
    }
    if (!span.to.empty()) return;
    const int slot = add_slot(0);
    add({.role = StepRole::stamp,
         .slot = slot,
         .after = {place},
         .stream = plan_.nodes[place].stream});
    span.to.push_back({slot, Moment::begin});
  }

  void add_closing() {
    std::vector<bool> waited_for(plan_.nodes.size());
    for (const StepNode& node : plan_.nodes) {
      if (node.with_start_of) continue;  // its end says nothing about the other's
      for (const int before : node.after) waited_for[before] = true;
    }
    StepNode closing{.role = StepRole::closing};
    for (size_t i = 0; i < waited_for.size(); ++i) {
      if (!waited_for[i]) closing.after.push_back(static_cast<int>(i));
    }
    add(std::move(closing));
  }

  const GpuGraph& graph_;
  StepPlan plan_;
  std::vector<int> place_;  // by GpuGraph node: index in plan_.nodes
};

double time_of(const StampPoint& point, const StepPlan& plan, std::span<const StampMeans> means) {
  const auto slot = static_cast<size_t>(point.slot);
  switch (point.moment) {
    case Moment::begin:
      return means[slot].first_ns - static_cast<double>(plan.wait_before_ns[slot]);
    case Moment::start:
      return means[slot].first_ns;
    case Moment::end:
      return means[slot].last_ns;
  }
  return 0;
}

// Whether `later` waits for the end of `earlier`, through others or not.
bool waits_for(const GpuGraph& graph, size_t later, size_t earlier) {
  std::vector<bool> reached(later + 1);
  reached[later] = true;
  for (size_t i = later; i > earlier; --i) {
    if (!reached[i] || graph.nodes[i].with_start_of) continue;
    for (const int before : graph.nodes[i].after) reached[before] = true;
  }
  return reached[earlier];
}

}  // namespace

StepPlan plan_step(const GpuGraph& graph) {
  return Planner(graph).plan();
}

void fill_operator_times(const GpuGraph& graph, const StepPlan& plan,
                         std::span<const StampMeans> means, GpuRun& run) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const auto ops = static_cast<size_t>(graph.ops);
  run.op_start_ns.assign(ops, kNone);
  std::vector<double> end_ns(ops, -kNone);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const NodeSpan& span = plan.spans[i];
    if (graph.nodes[i].op < 0 || span.from.empty()) continue;
    double from_ns = -kNone, to_ns = kNone;
    for (const StampPoint& point : span.from)
      from_ns = std::max(from_ns, time_of(point, plan, means));
    for (const StampPoint& point : span.to) to_ns = std::min(to_ns, time_of(point, plan, means));
    const auto op = static_cast<size_t>(graph.nodes[i].op);
    run.op_start_ns[op] = std::min(run.op_start_ns[op], from_ns);
    end_ns[op] = std::max(end_ns[op], to_ns);
  }
  run.op_ns.assign(ops, 0);
  for (size_t op = 0; op < ops; ++op) {
    if (end_ns[op] == -kNone) {
      run.op_start_ns[op] = 0;
    } else {
      run.op_ns[op] = std::max(0.0, end_ns[op] - run.op_start_ns[op]);
    }
  }
}

std::vector<int> share_scratch(const GpuGraph& graph) {
  std::vector<int> scratch(graph.nodes.size(), -1);
  std::vector<size_t> last_user;  // by piece
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].kind != GpuNodeKind::gemm) continue;
    size_t piece = 0;
    while (piece < last_user.size() && !waits_for(graph, i, last_user[piece])) ++piece;
    if (piece == last_user.size()) last_user.push_back(i);
    last_user[piece] = i;
    scratch[i] = static_cast<int>(piece);
  }
  return scratch;
}

}  // namespace preserve::cuda
