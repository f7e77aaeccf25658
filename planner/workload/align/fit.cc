// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/text.h"
#include "common/units.h"

namespace preserve::align {
namespace {

// What may stay over of a step that fits: engines run helpers that no config mentions, a draft
// model, or a layer more that predicts a second token.
constexpr double kMostMissing = 0.02;     // of the model's operators
constexpr double kMostTimeOver = 0.10;    // of the time of products and attention
constexpr double kMostLayersOver = 0.05;  // of the number of attention kernels
constexpr double kMostWrongShapes = 0.05;
// Reading faster than memory allows is possible from a cache; not for so much of a step.
constexpr double kTooFast = 2, kMostTooFast = 0.3;
constexpr int64_t kLeastBytes = 1 << 20;
// Durations of products that may be the same one; factor e to this.
constexpr double kAlike = 0.35;

class Judge {
 public:
  explicit Judge(const Pair& pair)
      : pair_(pair), recorded_(pair.recorded), modelled_(pair.modelled) {}

  Fit run(double memory_bytes_per_s, int64_t cache_bytes) {
    find_span();
    count();
    if (too_different()) {
      fit_.disagreement = first_difference();
    } else {
      fit_.disagreement = first_too_fast(memory_bytes_per_s, cache_bytes);
    }
    return std::move(fit_);
  }

 private:
  bool is_head(size_t index) const { return pair_.model_op(index).name == "lm_head"; }

  // Speculative decoding runs a draft model before the step's model or after it, each time up to a
  // product as long as the head, which they share. Nothing else may stay over there.
  void find_span() {
    end_ = recorded_.size();
    const Match *head = nullptr, *first = nullptr, *before_head = nullptr;
    for (const Match& match : pair_.alignment.matches) {
      if (!reads_much(modelled_[match.modelled].kind)) continue;
      if (first == nullptr) first = &match;
      if (is_head(match.modelled)) {
        head = &match;
      } else {
        before_head = &match;
      }
    }
    if (head == nullptr || before_head == nullptr || head->misfit > kAlike) return;
    const double head_ns = pair_.dur_ns(*head);
    const auto like_head = [&](const Recorded& item) {
      return item.kind == Kind::product && std::fabs(std::log(item.dur_ns / head_ns)) < kAlike;
    };
    // The last product of a layer must be another one, or a layer would look like a draft.
    if (like_head(recorded_[before_head->recorded_end - 1])) return;
    end_ = head->recorded_end;
    for (size_t i = before_head->recorded_end; i < end_; ++i) {
      if (like_head(recorded_[i])) end_ = i + 1;
    }
    for (size_t i = first->recorded; i-- > 0;) {
      if (!reads_much(recorded_[i].kind)) continue;
      if (like_head(recorded_[i])) begin_ = first->recorded;
      break;
    }
  }

  void count() {
    for (size_t i = 0; i < recorded_.size(); ++i) {
      const Recorded& item = recorded_[i];
      if (!reads_much(item.kind)) continue;
      if (i < begin_ || i >= end_) {
        ++fit_.drafts;
        fit_.draft_ns += item.dur_ns;
        continue;
      }
      fit_.reading_ns += item.dur_ns;
      ++kernels_;
      attention_ += item.kind == Kind::attention ? 1 : 0;
    }
    for (size_t i = 0; i < modelled_.size(); ++i) {
      if (!reads_much(modelled_[i].kind) || is_head(i)) continue;
      fit_.operators += 1.0 / modelled_[i].parts;
      layers_ += modelled_[i].kind == Kind::attention ? 1 : 0;
    }
    fit_.head = false;
    for (const Match& match : pair_.alignment.matches) {
      const Kind kind = modelled_[match.modelled].kind;
      if (!reads_much(kind)) continue;
      for (size_t i = match.recorded; i < match.recorded_end; ++i) {
        if (i < begin_ || i >= end_) continue;  // the head of a draft, taken for the model's
        if (reads_much(recorded_[i].kind)) fit_.matched_ns += recorded_[i].dur_ns;
        matched_attention_ += recorded_[i].kind == Kind::attention ? 1 : 0;
      }
      if (is_head(match.modelled)) {
        fit_.head = true;
      } else {
        for (size_t i = match.modelled; i < match.modelled_end; ++i) {
          fit_.matched += 1.0 / modelled_[i].parts;
        }
      }
      if (match.shapes_agree) {
        ++fit_.shapes;
        fit_.agreeing += *match.shapes_agree ? 1 : 0;
      }
    }
  }

  bool too_different() const {
    const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 1; };
    const auto over = static_cast<double>(attention_ - matched_attention_);
    return share(fit_.operators - fit_.matched, fit_.operators) > kMostMissing ||
           share(fit_.reading_ns - fit_.matched_ns, fit_.reading_ns) > kMostTimeOver ||
           over > std::max(1.0, kMostLayersOver * static_cast<double>(layers_)) ||
           (fit_.shapes > 0 && share(static_cast<double>(fit_.shapes - fit_.agreeing),
                                     static_cast<double>(fit_.shapes)) > kMostWrongShapes);
  }

  std::string kernel(size_t index) const {
    const StepOp& op = pair_.recorded_op(index);
    std::string text = fmt::format("operator {} {} ({})", op.ordinal, printable(op.name, 80),
                                   format_duration(op.dur_ns));
    if (op.gemm) text += fmt::format(" multiplies with {} x {}", op.gemm->n, op.gemm->k);
    return text;
  }

  std::string expected(size_t index) const {
    const StepOp& op = pair_.model_op(index);
    return op.gemm ? fmt::format("{} ({} x {})", op.name, op.gemm->n, op.gemm->k) : op.name;
  }

  // Between two matches what reads much may stay over on either side.
  std::string difference_between(size_t recorded, size_t recorded_end, size_t modelled,
                                 size_t modelled_end) const {
    std::optional<size_t> left, right;
    for (size_t i = recorded; i < recorded_end && !left; ++i) {
      if (reads_much(recorded_[i].kind)) left = i;
    }
    for (size_t i = modelled; i < modelled_end && !right; ++i) {
      if (reads_much(modelled_[i].kind) && !is_head(i)) right = i;
    }
    if (left && right)
      return fmt::format("{}, where the model has {}", kernel(*left), expected(*right));
    if (right) return fmt::format("no kernel runs {} of the model", expected(*right));
    if (left) return fmt::format("{} has no counterpart in the model", kernel(*left));
    return "";
  }

  std::string first_difference() const {
    std::string first;
    size_t recorded = begin_, modelled = 0;
    for (const Match& match : pair_.alignment.matches) {
      first = difference_between(recorded, match.recorded, modelled, match.modelled);
      if (!first.empty()) break;
      if (match.shapes_agree && !*match.shapes_agree) {
        first = fmt::format("{}, where the model has {}", kernel(match.recorded),
                            expected(match.modelled));
        break;
      }
      recorded = match.recorded_end;
      modelled = match.modelled_end;
    }
    if (first.empty()) {
      first = difference_between(recorded, end_, modelled, modelled_.size());
    }
    return fmt::format(
        "{}. The recorded step has {} that multiply or attend, {} of them attention; the model has "
        "{} that do, in {}",
        first.empty() ? "nothing in it is compared" : first, count_of(kernels_, "kernel"),
        attention_, count_of(std::llround(fit_.operators), "operator"), count_of(layers_, "layer"));
  }

  std::string first_too_fast(double memory_bytes_per_s, int64_t cache_bytes) const {
    double bytes = 0, too_fast_bytes = 0;
    std::string first;
    for (const Match& match : pair_.alignment.matches) {
      if (modelled_[match.modelled].kind != Kind::product) continue;
      const double dur_ns = pair_.dur_ns(match);
      double reads = 0;
      for (size_t i = match.modelled; i < match.modelled_end; ++i) {
        reads += static_cast<double>(modelled_[i].bytes);
      }
      bytes += reads;
      if (reads < kLeastBytes || reads * kNsPerS <= kTooFast * memory_bytes_per_s * dur_ns)
        continue;
      too_fast_bytes += reads;
      if (first.empty()) {
        first = fmt::format("{} would read {} of {} at {}, memory has {}", kernel(match.recorded),
                            format_size(reads), pair_.model_op(match.modelled).name,
                            format_rate(dur_ns > 0 ? reads * kNsPerS / dur_ns : 0),
                            format_rate(memory_bytes_per_s));
      }
    }
    if (bytes <= static_cast<double>(cache_bytes) || too_fast_bytes <= kMostTooFast * bytes)
      return "";
    return first;
  }

  const Pair& pair_;
  const std::vector<Recorded>& recorded_;
  const std::vector<Modelled>& modelled_;
  Fit fit_;
  size_t begin_ = 0, end_ = 0;  // what is recorded of the model
  int64_t kernels_ = 0, attention_ = 0, matched_attention_ = 0, layers_ = 0;
};

}  // namespace

Fit judge(const Pair& pair, double memory_bytes_per_s, int64_t cache_bytes) {
  return Judge(pair).run(memory_bytes_per_s, cache_bytes);
}

}  // namespace preserve::align
