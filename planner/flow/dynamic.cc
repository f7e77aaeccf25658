// SPDX-License-Identifier: Apache-2.0
// Dynamic programming over concave functions ("slope trick"). Walking along the ring from a cut,
// let V(f) be the best profit so far when f blocks are held. V is concave and piecewise linear, so
// it is its value at the left end plus the multiset of its slopes. A supply of u at cost c adds u
// units of slope -c on the right; a demand of d at profit p adds d units of slope -p and moves the
// left end by -d; an edge cuts V to [0, hold]. Every step is an insertion or a cut at an end: O(log
// s). Remembering where each insertion fell lets a walk backwards read off the optimal flow.
//
// The ring: h(z), the best profit with z blocks over the cut at both ends, is concave in z. z = 0
// is the answer whenever the cut edge has no capacity, and otherwise tangents close in on the
// maximum.
#include <algorithm>
#include <optional>

#include "common/as_index.h"
#include "common/error.h"
#include "planner/flow/dynamic.h"

namespace preserve {

namespace {

// The slopes of V in descending order with their lengths, over a fixed set of possible slopes:
// a Fenwick tree of lengths, index 0 being the steepest.
class Slopes {
 public:
  explicit Slopes(std::vector<int64_t> descending)
      : slope_(std::move(descending)), length_(slope_.size(), 0), tree_(slope_.size() + 1, 0) {
    while (top_ * 2 < tree_.size()) top_ *= 2;
  }

  void clear() {
    std::ranges::fill(length_, 0);
    std::ranges::fill(tree_, 0);
    total_ = 0;
  }
  size_t count() const { return slope_.size(); }
  int64_t total() const { return total_; }
  int64_t slope(size_t k) const { return slope_[k]; }
  int64_t length(size_t k) const { return length_[k]; }

  void add(size_t k, int64_t length) {
    length_[k] += length;
    total_ += length;
    for (size_t i = k + 1; i < tree_.size(); i += i & (~i + 1)) tree_[i] += length;
  }
  // Total length of the slopes steeper than slope k.
  int64_t before(size_t k) const {
    int64_t sum = 0;
    for (size_t i = k; i > 0; i -= i & (~i + 1)) sum += tree_[i];
    return sum;
  }
  size_t steepest() const { return covering(1); }
  size_t flattest() const { return covering(total_); }

 private:
  // The first k whose slopes, with all steeper ones, reach `length`.
  size_t covering(int64_t length) const {
    size_t position = 0;
    for (size_t stride = top_; stride > 0; stride /= 2) {
      if (position + stride < tree_.size() && tree_[position + stride] < length) {
        position += stride;
        length -= tree_[position];
      }
    }
    return position;
  }

  std::vector<int64_t> slope_, length_, tree_;
  size_t top_ = 1;
  int64_t total_ = 0;
};

class Dynamic {
 public:
  explicit Dynamic(const FlowProblem& problem)
      : problem_(problem), nodes_(problem.hold.size()), slopes_(distinct_slopes(problem)) {
    cut_ = as_index(std::ranges::min_element(problem.hold) - problem.hold.begin());
    order_insertions();
  }

  FlowSolution solve() {
    // Mostly nothing is worth carrying over the cut: then the second walk is the last.
    Point none;
    if (problem_.hold[cut_] > 0) none.next = evaluate(1, false);
    none.value = evaluate(0, true);
    const int64_t wrap = none.rises() ? best_wrap(none) : 0;
    if (wrap > 0) none.value = evaluate(wrap, true);
    if (!none.value) throw internal_error("flow: the chosen wrap is infeasible");
    return walk_back(wrap);
  }

 private:
  // A supply or demand, in the order of the walk that starts after the cut.
  struct Insertion {
    bool is_supply;
    uint32_t index;  // of the supply or demand
    uint32_t slope;  // index into slopes_
    int64_t length;
    int64_t left = 0;    // left end of V before the insertion
    int64_t before = 0;  // length of the steeper slopes then
  };

  static int64_t slope_of(const FlowSupply& supply) { return -supply.cost; }
  static int64_t slope_of(const FlowDemand& demand) { return -demand.profit; }

  static std::vector<int64_t> distinct_slopes(const FlowProblem& problem) {
    std::vector<int64_t> slopes;
    slopes.reserve(problem.supplies.size() + problem.demands.size());
    for (const FlowSupply& supply : problem.supplies) slopes.push_back(slope_of(supply));
    for (const FlowDemand& demand : problem.demands) slopes.push_back(slope_of(demand));
    std::ranges::sort(slopes, std::greater<>());
    slopes.erase(std::unique(slopes.begin(), slopes.end()), slopes.end());
    return slopes;
  }

  uint32_t slope_index(int64_t slope) const {
    size_t low = 0, high = slopes_.count();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (slopes_.slope(middle) > slope)
        low = middle + 1;
      else
        high = middle;
    }
    return static_cast<uint32_t>(low);
  }

  void order_insertions() {
    const size_t first = (cut_ + 1) % nodes_;
    const auto by_node = [](const auto& item, size_t node) { return as_index(item.node) < node; };
    auto supply =
        std::lower_bound(problem_.supplies.begin(), problem_.supplies.end(), first, by_node);
    auto demand =
        std::lower_bound(problem_.demands.begin(), problem_.demands.end(), first, by_node);
    // A supply that costs more than anything earns stays unused; its price would only strain the
    // sums.
    int64_t largest_profit = 0;
    for (const FlowDemand& item : problem_.demands) {
      largest_profit = std::max(largest_profit, item.profit);
    }
    insertions_.reserve(problem_.supplies.size() + problem_.demands.size());
    end_of_node_.reserve(nodes_);
    for (size_t walked = 0; walked < nodes_; ++walked) {
      const size_t node = (first + walked) % nodes_;
      if (node == 0) {
        supply = problem_.supplies.begin();
        demand = problem_.demands.begin();
      }
      for (; supply != problem_.supplies.end() && as_index(supply->node) == node; ++supply) {
        insertions_.push_back({true, static_cast<uint32_t>(supply - problem_.supplies.begin()),
                               slope_index(slope_of(*supply)),
                               supply->cost < largest_profit ? supply->capacity : 0});
      }
      for (; demand != problem_.demands.end() && as_index(demand->node) == node; ++demand) {
        insertions_.push_back({false, static_cast<uint32_t>(demand - problem_.demands.begin()),
                               slope_index(slope_of(*demand)), demand->capacity});
      }
      end_of_node_.push_back(insertions_.size());
    }
  }

  // h(wrap), or nothing when so much cannot be carried over the cut. With `remember`, keeps what
  // walk_back() needs.
  std::optional<int64_t> evaluate(int64_t wrap, bool remember) {
    slopes_.clear();
    left_ = wrap;
    value_ = 0;
    size_t i = 0;
    for (size_t walked = 0; walked < nodes_; ++walked) {
      for (; i < end_of_node_[walked]; ++i) {
        Insertion& insertion = insertions_[i];
        if (remember) {
          insertion.left = left_;
          insertion.before = slopes_.before(insertion.slope);
        }
        if (!insertion.is_supply) {
          left_ -= insertion.length;
          value_ -= slopes_.slope(insertion.slope) * insertion.length;
        }
        if (insertion.length > 0) slopes_.add(insertion.slope, insertion.length);
      }
      const size_t edge = (cut_ + 1 + walked) % nodes_;
      const bool last = walked + 1 == nodes_;
      if (!cut_domain(last ? wrap : 0, last ? wrap : problem_.hold[edge])) return std::nullopt;
    }
    return value_;
  }

  // Restricts V to [low, high]; false when nothing is left.
  bool cut_domain(int64_t low, int64_t high) {
    if (left_ > high || left_ + slopes_.total() < low) return false;
    while (left_ < low) {
      const size_t k = slopes_.steepest();
      const int64_t length = std::min(slopes_.length(k), low - left_);
      value_ += slopes_.slope(k) * length;
      left_ += length;
      slopes_.add(k, -length);
    }
    for (int64_t excess = left_ + slopes_.total() - high; excess > 0;) {
      const size_t k = slopes_.flattest();
      const int64_t length = std::min(slopes_.length(k), excess);
      slopes_.add(k, -length);
      excess -= length;
    }
    return true;
  }

  // A point of h with its slope to the right; infeasible ones fall without end.
  struct Point {
    int64_t z = 0;
    std::optional<int64_t> value, next;
    bool rises() const { return value && next && *next > *value; }
  };
  Point probe(int64_t z) { return {z, evaluate(z, false), evaluate(z + 1, false)}; }

  // The least z that maximises h on [0, hold of the cut]; `low`: 0, where h rises.
  int64_t best_wrap(Point low) {
    // Invariant: h rises at low, does not rise at high (or high is the limit).
    Point high{problem_.hold[cut_], std::nullopt, std::nullopt};
    for (bool bisect = false; high.z - low.z > 1; bisect = !bisect) {
      int64_t z = low.z + (high.z - low.z) / 2;
      if (!bisect && high.value && high.next) z = where_tangents_meet(low, high);
      const Point point = probe(z);
      (point.rises() ? low : high) = point;
    }
    return high.z;
  }

  static int64_t where_tangents_meet(const Point& low, const Point& high) {
    const auto rise_low = static_cast<double>(*low.next - *low.value);
    const auto rise_high = static_cast<double>(*high.next - *high.value);
    const double gap = static_cast<double>(high.z - low.z);
    const double drop = static_cast<double>(*high.value - *low.value);
    const double step = (drop - rise_high * gap) / std::max(rise_low - rise_high, 1.0);
    const double clamped = std::clamp(step, 1.0, gap - 1.0);
    return low.z + std::clamp(static_cast<int64_t>(clamped), int64_t{1}, high.z - low.z - 1);
  }

  FlowSolution walk_back(int64_t wrap) const {
    FlowSolution solution;
    solution.profit = value_;
    solution.supplied.assign(problem_.supplies.size(), 0);
    solution.consumed.assign(problem_.demands.size(), 0);
    solution.held.assign(nodes_, 0);
    int64_t held = wrap;
    size_t i = insertions_.size();
    for (size_t walked = nodes_; walked-- > 0;) {
      solution.held[(cut_ + 1 + walked) % nodes_] = held;
      const size_t begin = walked == 0 ? 0 : end_of_node_[walked - 1];
      while (i > begin) {
        const Insertion& in = insertions_[--i];
        // How far `held` reaches into the inserted stretch of V.
        const int64_t position = held - in.left + (in.is_supply ? 0 : in.length);
        const int64_t inside = std::clamp(position - in.before, int64_t{0}, in.length);
        if (in.is_supply) {
          solution.supplied[in.index] = inside;
          held -= inside;
        } else {
          solution.consumed[in.index] = in.length - inside;
          held += in.length - inside;
        }
      }
    }
    return solution;
  }

  const FlowProblem& problem_;
  size_t nodes_;
  size_t cut_ = 0;
  Slopes slopes_;
  std::vector<Insertion> insertions_;
  std::vector<size_t> end_of_node_;
  int64_t left_ = 0;   // left end of V
  int64_t value_ = 0;  // V there
};

}  // namespace

FlowSolution solve_flow_dynamic(const FlowProblem& problem) {
  return Dynamic(problem).solve();
}

}  // namespace preserve
