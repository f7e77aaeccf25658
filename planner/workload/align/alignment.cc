// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/alignment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "common/error.h"
#include "common/stats.h"

namespace preserve::align {
namespace {

constexpr size_t kMost = 3;  // kernels of one operator, parts of one kernel
constexpr float kNever = 1e9F;

// Costs, in units of a match that cannot be right. Only their order matters: an operator of the
// model is left out at greater cost than any kernel whose duration is wrong is taken for it, but a
// kernel whose shape is wrong never is.
constexpr float kSkipRecorded = 1.5F;
constexpr float kOutside = 0.8F;  // factor before and after the model: a draft model runs there
constexpr float kSkipModelled = 3;
constexpr float kSkipCollective = 0.8F;  // fused into another kernel
constexpr float kWrongShape = 6;
constexpr float kOtherKind = 0.8F;  // products and experts
constexpr float kNoKind = 1.5F;
constexpr float kTwoProducts = 1;  // attention as two products of activations
constexpr float kSplit = 0.3F;     // for each further kernel of an operator
constexpr float kNormInPlace = -0.1F;
constexpr float kMisfit = 0.5F;  // per factor e of duration
constexpr float kMostMisfit = 2;
// A much shorter kernel beside a product is a helper, not a part of it; in mean durations of the
// two.
constexpr double kLeastPart = 0.5;
constexpr double kShapeTolerance = 0.02;
// Layers are alike: a kernel that runs other parts of its operator than in most layers is likelier
// to be a helper. Counted where there are at least so many layers.
constexpr float kUncommonCut = 1;
constexpr int64_t kLeastLayers = 4;

float skip_cost(const Recorded& item) {
  return reads_much(item.kind)           ? kSkipRecorded
         : item.kind == Kind::collective ? kSkipCollective
                                         : 0;
}

float skip_cost(const Modelled& item) {
  if (item.kind == Kind::norm) return 0;
  if (item.kind == Kind::collective) return kSkipCollective;
  return kSkipModelled / static_cast<float>(item.parts);
}

// Up to kMost items that end at the same place, as one.
struct Group {
  bool valid = false;
  Kind kind = Kind::unknown;
  float log_dur = 0;
  bool alike = true;     // in duration
  int64_t elements = 0;  // 0: not known
};

struct GroupCost {
  float cost = kNever;
  float misfit = 0;
  std::optional<bool> shapes_agree{};
};

bool shapes_agree(int64_t recorded, int64_t modelled) {
  return std::fabs(static_cast<double>(recorded) - static_cast<double>(modelled)) <=
         kShapeTolerance * static_cast<double>(modelled);
}

float kind_cost(Kind recorded, Kind modelled, size_t kernels) {
  if (recorded == modelled) return 0;
  if (modelled == Kind::norm || modelled == Kind::collective) return kNever;
  if (recorded == Kind::unknown) return kernels == 1 ? kNoKind : kNever;
  if (modelled == Kind::attention) {
    return recorded == Kind::product && kernels == 2 ? kTwoProducts : kNever;
  }
  return recorded == Kind::product || recorded == Kind::experts ? kOtherKind : kNever;
}

GroupCost cost_of(const Group& recorded, size_t kernels, const Group& modelled, float log_scale) {
  GroupCost out;
  const float kind = kind_cost(recorded.kind, modelled.kind, kernels);
  if (kind >= kNever) return out;
  if (kernels > 1 && modelled.kind == Kind::product && !recorded.alike) return out;
  out.cost = kind + kSplit * static_cast<float>(kernels - 1);
  if (modelled.kind == Kind::norm) out.cost += kNormInPlace;
  if (modelled.kind != Kind::product && modelled.kind != Kind::experts) return out;
  out.misfit = std::fabs(recorded.log_dur - modelled.log_dur - log_scale);
  if (recorded.elements > 0 && modelled.elements > 0) {
    out.shapes_agree = shapes_agree(recorded.elements, modelled.elements);
    if (!*out.shapes_agree) out.cost += kWrongShape;
    return out;
  }
  out.cost += kMisfit * std::min(out.misfit, kMostMisfit);
  return out;
}

template <typename Item>
std::vector<std::array<Group, kMost + 1>> groups_of(const std::vector<Item>& items,
                                                    bool (*together)(const Item&, const Item&)) {
  std::vector<std::array<Group, kMost + 1>> groups(items.size() + 1);
  for (size_t end = 1; end <= items.size(); ++end) {
    double dur_ns = 0, least_ns = items[end - 1].dur_ns;
    int64_t elements = 0;
    bool known = true;
    for (size_t count = 1; count <= std::min(kMost, end); ++count) {
      const Item& item = items[end - count];
      if (count > 1 && !together(item, items[end - count + 1])) break;
      dur_ns += item.dur_ns;
      least_ns = std::min(least_ns, item.dur_ns);
      const int64_t own = std::optional<int64_t>(item.elements).value_or(0);
      known = known && own > 0 && !__builtin_add_overflow(elements, own, &elements);
      groups[end][count] = {true, item.kind, static_cast<float>(std::log(std::max(1.0, dur_ns))),
                            least_ns * static_cast<double>(count) >= kLeastPart * dur_ns,
                            known ? elements : 0};
    }
  }
  return groups;
}

bool split_together(const Recorded& a, const Recorded& b) {
  return a.kind == b.kind && reads_much(a.kind);
}

bool fused_together(const Modelled& a, const Modelled& b) {
  return a.ordinal == b.ordinal || (a.kind == Kind::experts && b.kind == Kind::experts);
}

class Aligner {
 public:
  Aligner(const std::vector<Recorded>& recorded, const std::vector<Modelled>& modelled)
      : recorded_(recorded),
        modelled_(modelled),
        recorded_groups_(groups_of<Recorded>(recorded, split_together)),
        modelled_groups_(groups_of<Modelled>(modelled, fused_together)),
        uncommon_(modelled.size() + 1) {}

  Alignment run() {
    // The first pass shows how durations compare and how kernels are cut, the second one uses it.
    log_scale_ = first_scale();
    list_groups(false);
    const Alignment first = align(std::vector<Band>(recorded_.size() + 1, {0, modelled_.size()}));
    log_scale_ = median_scale(first);
    find_uncommon_cuts(first);
    list_groups(true);
    Alignment result = align(band_around(first));
    result.scale = std::exp(static_cast<double>(log_scale_));
    return result;
  }

 private:
  // How a cell was reached: nothing, one of the skips, or kernels and parts of a match.
  enum Move : uint8_t { kStart = 0, kSkippedRecorded = 1, kSkippedModelled = 2, kMatched = 3 };
  static uint8_t match_move(size_t kernels, size_t parts) {
    return static_cast<uint8_t>(kMatched + (kernels - 1) * kMost + (parts - 1));
  }

  float first_scale() const {
    double recorded_ns = 0, modelled_ns = 0;
    for (const Recorded& item : recorded_) {
      if (item.kind == Kind::product || item.kind == Kind::experts) recorded_ns += item.dur_ns;
    }
    for (const Modelled& item : modelled_) {
      if (item.kind == Kind::product || item.kind == Kind::experts) modelled_ns += item.dur_ns;
    }
    if (recorded_ns <= 0 || modelled_ns <= 0) return 0;
    return static_cast<float>(std::log(recorded_ns / modelled_ns));
  }

  float median_scale(const Alignment& alignment) const {
    std::vector<double> ratios;
    for (const Match& match : alignment.matches) {
      if (modelled_[match.modelled].kind != Kind::product) continue;
      ratios.push_back(
          recorded_groups_[match.recorded_end][match.recorded_end - match.recorded].log_dur -
          modelled_groups_[match.modelled_end][match.modelled_end - match.modelled].log_dur);
    }
    return ratios.empty() ? log_scale_ : static_cast<float>(median(ratios));
  }

  // Which parts of its operator a group has, for one kernel and for several.
  struct Cut {
    int32_t role, part, last_role, last_part;
    bool several;
    auto operator<=>(const Cut&) const = default;
  };
  Cut cut_of(size_t end, size_t parts, bool several) const {
    const Modelled &first = modelled_[end - parts], &last = modelled_[end - 1];
    return {first.role, first.part, last.role, last.part, several};
  }

  void find_uncommon_cuts(const Alignment& alignment) {
    std::map<int32_t, int64_t> layers;  // by role
    for (const Modelled& item : modelled_) layers[item.role] += item.part == 0 ? 1 : 0;
    std::map<Cut, int64_t> cuts;
    for (const Match& match : alignment.matches) {
      ++cuts[cut_of(match.modelled_end, match.modelled_end - match.modelled,
                    match.recorded_end - match.recorded > 1)];
    }
    for (size_t end = 1; end <= modelled_.size(); ++end) {
      for (size_t parts = 1; parts <= kMost && modelled_groups_[end][parts].valid; ++parts) {
        for (const bool several : {false, true}) {
          const Cut cut = cut_of(end, parts, several);
          const int64_t of_role = layers[cut.role];
          const auto found = cuts.find(cut);
          const int64_t count = found == cuts.end() ? 0 : found->second;
          uncommon_[end][parts][several ? 1 : 0] = of_role >= kLeastLayers && 2 * count < of_role;
        }
      }
    }
  }

  // Groups as the inner loop needs them, by the place where they end.
  struct Part {
    size_t parts;
    const Group* group;
    bool whole;
    float uncommon, several_uncommon;  // cost
  };
  struct Kernel {
    size_t kernels;
    const Group* group;
  };

  // `unknown`: kernels without a rule too; they are many, and few of them run anything.
  void list_groups(bool unknown) {
    parts_.assign(modelled_.size() + 1, {});
    for (size_t end = 1; end <= modelled_.size(); ++end) {
      for (size_t parts = 1; parts <= kMost && modelled_groups_[end][parts].valid; ++parts) {
        const std::array<bool, 2>& uncommon = uncommon_[end][parts];
        parts_[end].push_back({parts, &modelled_groups_[end][parts], is_whole(end, parts),
                               uncommon[0] ? kUncommonCut : 0, uncommon[1] ? kUncommonCut : 0});
      }
    }
    kernels_.assign(recorded_.size() + 1, {});
    for (size_t end = 1; end <= recorded_.size(); ++end) {
      if (!unknown && recorded_[end - 1].kind == Kind::unknown) continue;
      for (size_t count = 1; count <= kMost && recorded_groups_[end][count].valid; ++count) {
        kernels_[end].push_back({count, &recorded_groups_[end][count]});
      }
    }
  }

  // Columns of a row that are looked at.
  struct Band {
    size_t first, last;
  };

  // The second pass stays within some layers of the first one's matches.
  std::vector<Band> band_around(const Alignment& first) const {
    constexpr size_t kMargin = 64;
    std::vector<Band> bands(recorded_.size() + 1, {0, modelled_.size()});
    size_t row = 0, column = 0;
    const auto fill = [&](size_t row_end, size_t column_end) {
      for (; row < row_end; ++row) {
        bands[row] = {column - std::min(column, kMargin),
                      std::min(column_end + kMargin, modelled_.size())};
      }
      column = column_end;
    };
    for (const Match& match : first.matches) fill(match.recorded_end, match.modelled_end);
    fill(recorded_.size() + 1, modelled_.size());
    return bands;
  }

  Alignment align(const std::vector<Band>& bands) {
    const size_t rows = recorded_.size() + 1, columns = modelled_.size() + 1;
    std::vector<uint8_t> moves(rows * columns, kStart);
    std::vector<float> skips(columns, 0);
    for (size_t j = 1; j < columns; ++j) skips[j] = skip_cost(modelled_[j - 1]);
    std::array<std::vector<float>, kMost + 1> cost;  // of the last rows, by row modulo their number
    for (std::vector<float>& row : cost) row.assign(columns, kNever);
    for (size_t i = 0; i < rows; ++i) {
      std::vector<float>& here = cost[i % cost.size()];
      std::ranges::fill(here, kNever);
      const std::vector<float>& above = cost[(i + kMost) % cost.size()];
      const float skip = i > 0 ? skip_cost(recorded_[i - 1]) : kNever;
      uint8_t* const move_of = moves.data() + i * columns;
      for (size_t j = bands[i].first; j <= bands[i].last; ++j) {
        float best = i == 0 && j == 0 ? 0 : kNever;
        uint8_t move = kStart;
        const auto offer = [&](float total, uint8_t how) {
          if (total < best) {
            best = total;
            move = how;
          }
        };
        offer(above[j] + (j == 0 || j + 1 == columns ? kOutside * skip : skip), kSkippedRecorded);
        if (j > 0) offer(here[j - 1] + skips[j], kSkippedModelled);
        for (const Kernel& kernel : kernels_[i]) {
          const std::vector<float>& from = cost[(i - kernel.kernels) % cost.size()];
          for (const Part& part : parts_[j]) {
            if (kernel.kernels > 1 && !part.whole) continue;
            const float before = from[j - part.parts];
            if (before + kNormInPlace >= best) continue;
            const float match =
                cost_of(*kernel.group, kernel.kernels, *part.group, log_scale_).cost;
            offer(before + match + (kernel.kernels > 1 ? part.several_uncommon : part.uncommon),
                  match_move(kernel.kernels, part.parts));
          }
        }
        here[j] = best;
        move_of[j] = move;
      }
    }
    Alignment result;
    result.cost = cost[(rows - 1) % cost.size()][columns - 1];
    trace_back(moves, result);
    return result;
  }

  // Several kernels run a whole operator, not some of its parts.
  bool is_whole(size_t end, size_t parts) const {
    const Modelled &first = modelled_[end - parts], &last = modelled_[end - 1];
    return first.ordinal == last.ordinal && first.part == 0 && last.part + 1 == last.parts;
  }

  void trace_back(const std::vector<uint8_t>& moves, Alignment& result) const {
    const size_t columns = modelled_.size() + 1;
    size_t i = recorded_.size(), j = modelled_.size();
    while (i > 0 || j > 0) {
      const uint8_t move = moves[i * columns + j];
      if (move == kSkippedRecorded) {
        --i;
      } else if (move == kSkippedModelled) {
        --j;
      } else {
        const auto code = static_cast<size_t>(move - kMatched);
        const size_t kernels = code / kMost + 1, parts = code % kMost + 1;
        const Group &left = recorded_groups_[i][kernels], &right = modelled_groups_[j][parts];
        const GroupCost match = cost_of(left, kernels, right, log_scale_);
        result.matches.push_back({i - kernels, i, j - parts, j, left.kind == right.kind,
                                  static_cast<double>(match.misfit), match.shapes_agree});
        i -= kernels;
        j -= parts;
      }
    }
    std::ranges::reverse(result.matches);
  }

  const std::vector<Recorded>& recorded_;
  const std::vector<Modelled>& modelled_;
  std::vector<std::array<Group, kMost + 1>> recorded_groups_, modelled_groups_;
  // Of a group of parts, by one kernel and by several: is it cut elsewhere in most layers?
  std::vector<std::array<std::array<bool, 2>, kMost + 1>> uncommon_;
  std::vector<std::vector<Part>> parts_;
  std::vector<std::vector<Kernel>> kernels_;
  float log_scale_ = 0;
};

}  // namespace

Alignment align(const std::vector<Recorded>& recorded, const std::vector<Modelled>& modelled) {
  constexpr size_t kMostCells = size_t{1} << 27;
  if ((recorded.size() + 1) > kMostCells / (modelled.size() + 1)) {
    throw input_error(
        "a step of {} kernels cannot be aligned with a model of {} operators: it is too long; mark "
        "one step of the recording with --step-range",
        recorded.size(), modelled.size());
  }
  return Aligner(recorded, modelled).run();
}

}  // namespace preserve::align
