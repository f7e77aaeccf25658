// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/as_index.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve::align {
namespace {

constexpr size_t kNameWidth = 60;
constexpr size_t kMostLeftOver = 12;  // names of kernels without a counterpart

struct Row {
  std::string what{};     // the operator without its layer
  std::string kernels{};  // their names
  int32_t ordinal = 0;    // of the first
  double dur_ns = 0, bytes = 0, confidence = 0;
};

struct Block {
  std::string layer;  // "layers.3", or empty
  std::vector<Row> rows;
};

bool alike(const Block& a, const Block& b) {
  return !a.layer.empty() && !b.layer.empty() &&
         std::ranges::equal(a.rows, b.rows, [](const Row& x, const Row& y) {
           return x.what == y.what && x.kernels == y.kernels && x.bytes == y.bytes;
         });
}

// "layers.3" of "layers.3.attn.qkv"; empty for what is in no layer.
std::string layer_of(const std::string& name) {
  if (!name.starts_with("layers.")) return "";
  return name.substr(0, name.find('.', std::string("layers.").size()));
}

class Table {
 public:
  explicit Table(const Pair& pair) : pair_(pair), matched_ops_(pair.step.ops.size(), false) {
    for (const Match& match : pair.alignment.matches) add(match);
    for (size_t i = 0; i < matched_ops_.size(); ++i) {
      if (!matched_ops_[i]) leave_over(pair.step.ops[i]);
    }
  }

  std::string text() const {
    std::string text;
    for (size_t first = 0; first < blocks_.size();) {
      size_t last = first;
      while (last + 1 < blocks_.size() && alike(blocks_[first], blocks_[last + 1])) ++last;
      const std::string& layer = blocks_[first].layer;
      text += fmt::format("{}\n", layer.empty()  ? "outside of layers"
                                  : last > first ? fmt::format("{} to {}: alike; the first is",
                                                               layer, blocks_[last].layer)
                                                 : layer);
      for (const Row& row : blocks_[first].rows) text += line(row);
      first = last + 1;
    }
    return text + left_over();
  }

 private:
  void add(const Match& match) {
    const StepOp& first = pair_.model_op(match.modelled);
    Row row{.ordinal = pair_.recorded[match.recorded].ordinal, .dur_ns = pair_.dur_ns(match)};
    const std::string layer = layer_of(first.name);
    row.what = first.name.substr(layer.empty() ? 0 : layer.size() + 1);
    const StepOp& last = pair_.model_op(match.modelled_end - 1);
    if (&last != &first) row.what += " + " + last.name.substr(layer.empty() ? 0 : layer.size() + 1);
    const Modelled& part = pair_.modelled[match.modelled];
    const int32_t parts = static_cast<int32_t>(match.modelled_end - match.modelled);
    if (&last == &first && parts < part.parts) {
      row.what += parts == 1 ? fmt::format(" ({} of {})", part.part + 1, part.parts)
                             : fmt::format(" ({} to {} of {})", part.part + 1, part.part + parts,
                                           part.parts);
    }
    for (size_t i = match.recorded; i < match.recorded_end; ++i) {
      const StepOp& op = pair_.recorded_op(i);
      matched_ops_[as_index(op.ordinal)] = true;
      row.kernels += (row.kernels.empty() ? "" : " + ") + printable(op.name, kNameWidth);
      for (const StepAccess& access : op.accesses) {
        if (access.source != "model" || access.mode != AccessMode::read) continue;
        row.bytes += static_cast<double>(access.bytes);
        row.confidence = access.confidence;
      }
    }
    if (blocks_.empty() || blocks_.back().layer != layer) blocks_.push_back({layer, {}});
    blocks_.back().rows.push_back(std::move(row));
  }

  void leave_over(const StepOp& op) {
    auto& [count, dur_ns] = left_[op.name];
    ++count;
    dur_ns += op.dur_ns;
  }

  static std::string line(const Row& row) {
    std::string bytes, rate, confidence;
    if (row.bytes > 0) {
      bytes = format_size(row.bytes);
      rate = row.dur_ns > 0 ? format_rate(row.bytes * kNsPerS / row.dur_ns) : "";
      confidence = fmt::format("{:.2f}", row.confidence);
    }
    return fmt::format("  {:<28} {:>10} {:>11} {:>11} {:>5}  #{} {}\n", row.what,
                       format_duration(row.dur_ns), bytes, rate, confidence, row.ordinal,
                       row.kernels);
  }

  std::string left_over() const {
    std::vector<std::pair<std::string, std::pair<int64_t, double>>> left(left_.begin(),
                                                                         left_.end());
    std::ranges::sort(
        left, [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
    std::string text = left.empty() ? "" : "without a counterpart in the model\n";
    for (size_t i = 0; i < std::min(left.size(), kMostLeftOver); ++i) {
      text +=
          fmt::format("  {:>4} x {:>10} in all  {}\n", left[i].second.first,
                      format_duration(left[i].second.second), printable(left[i].first, kNameWidth));
    }
    if (left.size() > kMostLeftOver) {
      text += fmt::format("  and {} other names\n", left.size() - kMostLeftOver);
    }
    return text;
  }

  const Pair& pair_;
  std::vector<Block> blocks_;
  std::vector<bool> matched_ops_;
  std::map<std::string, std::pair<int64_t, double>> left_;  // by name: number, time
};

}  // namespace

std::string alignment_table(const Pair& pair) {
  return Table(pair).text();
}

}  // namespace preserve::align
