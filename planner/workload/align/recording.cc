// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/recording.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/workload/align/explain.h"
#include "planner/workload/align/fit.h"
#include "planner/workload/align/step_size.h"

namespace preserve::align {
namespace {

constexpr double kStatedContext = 0.9, kGuessedContext = 0.5;  // confidence in bytes of KV
constexpr double kReachedBandwidth = 0.8;                      // of memory, by good kernels

// The step that the model would have, of the recording's size.
struct Expected {
  WorkloadSpec spec;
  bool prefill = false;
  bool context_known = true;
  std::string tokens_from, context_from;  // who says so
  std::vector<std::string> warnings{};
};

Expected expected_step(const TraceDb& db, const FoldedStep& step, WorkloadOptions options) {
  Expected out;
  const std::optional<int64_t> asked = options.batch;
  const bool context_given = !options.context.empty();
  const bool prefill = step.phase == StepPhase::prefill;
  // Ranks and tokens are known only with the model, and the model only with these.
  const int64_t hidden = load_model_config(options.model, options.assume == "llama").hidden;
  const StepSize size = recorded_size(db, step, hidden);
  if (!options.ranks) options.ranks = size.ranks;
  if (!options.ranks) {
    throw usage_error(
        "{}: does not say how many ranks its collectives have: name the tensor-parallel ranks with "
        "--tp N",
        db.file());
  }
  if (!prefill && size.tokens) options.batch = size.tokens;
  out.spec = workload_spec(options);
  WorkloadSpec& spec = out.spec;
  if (!prefill && size.tokens && asked && *asked != *size.tokens) {
    out.warnings.push_back(fmt::format("--batch {} is not used: {} of {} sequences by {}", *asked,
                                       "the step works", *size.tokens, size.tokens_from));
  }
  out.prefill = prefill;
  out.context_known = context_given;
  out.context_from = context_given ? "--context" : "assumed";
  out.tokens_from = size.tokens ? size.tokens_from : asked ? "--batch" : "assumed";
  if (prefill) {
    const int64_t tokens = size.tokens.value_or(checked_mul(spec.batch, spec.context, "tokens"));
    if (!size.tokens) out.tokens_from = context_given ? "--batch and --context" : "assumed";
    if (tokens % spec.batch != 0) spec.batch = 1;
    spec.new_tokens = tokens / spec.batch;
    if (!context_given && size.tokens) {
      spec.context = spec.new_tokens;  // nothing of the prompt was cached before
      out.context_known = true;
      out.context_from = "the prompt";
    }
  }
  if (!size.tokens && !asked) {
    out.warnings.push_back(fmt::format(
        "the recording does not say how many sequences its step works on: {} assumed; say --batch",
        count_of(spec.batch, "sequence")));
  }
  // Neither waiting nor an engine's gaps are compared.
  spec.engine_overhead = 1;
  if (!spec.allreduce_ns) spec.allreduce_ns = 1;
  return out;
}

// Of the device that the trace was recorded on or is planned for, whichever is faster.
double memory_bandwidth(const TraceDb& db, const FoldedStep& step, const DeviceModel& device) {
  const auto recorded = db.query_integer(
      "SELECT MAX(memory_bandwidth_bytes_per_s) FROM device JOIN stream ON stream.device_id = "
      "device.id WHERE stream.process_id = ?",
      {step.process.value});
  return std::max(device.memory_bandwidth_bytes_per_s, static_cast<double>(recorded.value_or(0)));
}

// Tokens of each sequence whose keys and values attention can have read in its time; nothing where
// no attention of the model was found.
std::optional<int64_t> context_by_time(const Pair& pair, const WorkloadSpec& spec,
                                       double memory_bytes_per_s, double floor_ns) {
  double most_bytes = 0;  // of the layers whose attention has no window
  for (const Modelled& item : pair.modelled) {
    if (item.kind == Kind::attention) {
      most_bytes = std::max(most_bytes, static_cast<double>(item.bytes));
    }
  }
  std::vector<double> tokens;
  for (const Match& match : pair.alignment.matches) {
    const Modelled& item = pair.modelled[match.modelled];
    if (item.kind != Kind::attention || static_cast<double>(item.bytes) < most_bytes) continue;
    const double reading_ns = std::max(0.0, pair.dur_ns(match) - floor_ns);
    const double bytes = reading_ns * kReachedBandwidth * memory_bytes_per_s / kNsPerS;
    tokens.push_back(static_cast<double>(spec.context) * bytes / most_bytes);
  }
  if (tokens.empty()) return std::nullopt;
  return std::max<int64_t>(1, std::llround(std::min(median(tokens), 1e8)));
}

std::string share(double part, double whole) {
  return fmt::format("{:.1f} %", whole > 0 ? 100 * part / whole : 100);
}

std::string summarise(const Pair& pair, const Expected& expected, const Fit& fit) {
  const WorkloadSpec& spec = expected.spec;
  const FoldedStep& step = pair.step;
  double weights = 0, kv = 0;
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      if (access.source != "model" || access.mode != AccessMode::read) continue;
      const bool is_kv = step.tensors[static_cast<size_t>(access.tensor)].role == TensorRole::kv;
      (is_kv ? kv : weights) += static_cast<double>(access.bytes);
    }
  }
  const std::string size = fmt::format(
      "{} of {} ({}) on {}, context {} ({})", expected.prefill ? "prefill" : "decode step",
      count_of(checked_mul(spec.batch, spec.new_tokens, "tokens"), "token"), expected.tokens_from,
      count_of(spec.ranks, "rank"),
      spec.contexts.empty() ? std::to_string(spec.context) : "as listed", expected.context_from);
  std::string text = fmt::format(
      "rank {} runs {}: {}\n"
      "  bytes known for {} of the time of products and attention ({} of {}): weights {}, KV {}\n"
      "  {} of {} of the model found{}; durations {:.2f} times the generated ones\n",
      step.rank, spec.model.name, size, share(fit.matched_ns, fit.reading_ns),
      format_duration(fit.matched_ns), format_duration(fit.reading_ns), format_size(weights),
      format_size(kv), std::llround(fit.matched), count_of(std::llround(fit.operators), "operator"),
      fit.head ? "" : ", without the head", pair.alignment.scale);
  if (fit.drafts > 0) {
    text += fmt::format("  {} before or after it are of another model, a draft: {}, not counted\n",
                        count_of(fit.drafts, "kernel"), format_duration(fit.draft_ns));
  }
  if (fit.shapes > 0) {
    text += fmt::format("  {} of {} with a recorded shape agree with the model within 2 %\n",
                        fit.agreeing, count_of(fit.shapes, "product"));
  }
  return text;
}

// The cheapest of the orders in which engines run the model.
void align_orders(const Workload& workload, Pair& pair) {
  for (std::vector<Modelled>& order : modelled_sequences(workload)) {
    Alignment other = align(pair.recorded, order);
    if (!pair.modelled.empty() && other.cost >= pair.alignment.cost) continue;
    pair.alignment = std::move(other);
    pair.modelled = std::move(order);
  }
}

}  // namespace

AlignedStep align_step(const TraceDb& db, std::optional<int64_t> rank,
                       std::optional<StepPhase> phase, const WorkloadOptions& options,
                       const DeviceModel& device, bool force) {
  AlignedStep out;
  out.step = fold_step(db, rank, phase, &out.rows);
  FoldedStep& step = out.step;
  Expected expected = expected_step(db, step, options);
  DeviceModel roomy = device;
  roomy.memory_bytes = 0;  // the recording shows that it fitted
  Workload workload = generate_workload(expected.spec, roomy);
  const gpu::KernelRules rules;
  Pair pair{.step = step, .model = workload.step, .recorded = recorded_sequence(step, rules)};
  align_orders(workload, pair);
  const double memory_bytes_per_s = memory_bandwidth(db, step, device);
  if (!expected.context_known) {
    const std::optional<int64_t> context = context_by_time(pair, expected.spec, memory_bytes_per_s,
                                                           static_cast<double>(device.op_floor_ns));
    if (context && !expected.prefill) {
      // Only bytes and times of attention change, which nothing was matched by.
      expected.spec.context = *context;
      expected.context_from = "by the time of attention";
      workload = generate_workload(expected.spec, roomy);
    }
    expected.warnings.push_back(fmt::format(
        "the recording does not say how long the contexts are: {} of each sequence, {}; "
        "say --context",
        count_of(expected.spec.context, "token"), expected.context_from));
  }
  const Fit fit = judge(pair, memory_bytes_per_s, device.cache_bytes);
  if (!fit.disagreement.empty()) {
    const std::string text = fmt::format("{}: the step of rank {} is not one of {} on {}: {}",
                                         db.file(), step.rank, expected.spec.model.name,
                                         count_of(expected.spec.ranks, "rank"), fit.disagreement);
    if (!force) {
      throw input_error("{}. Name the model and --tp that were recorded, or go on with --force",
                        text);
    }
    step.warnings.push_back(text);
  }
  step.warnings.insert(step.warnings.end(), expected.warnings.begin(), expected.warnings.end());
  out.given =
      give_operands(pair, rules, expected.context_known ? kStatedContext : kGuessedContext, step);
  out.summary = summarise(pair, expected, fit);
  out.table = alignment_table(pair);
  return out;
}

std::vector<AlignedStep> align_trace(const TraceDb& db, const WorkloadOptions& options,
                                     const DeviceModel& device, bool force) {
  std::vector<AlignedStep> all;
  for (const int64_t rank : ranks_with_steps(db)) {
    for (const StepPhase phase : recorded_phases(db, rank)) {
      all.push_back(align_step(db, rank, phase, options, device, force));
    }
  }
  return all;
}

}  // namespace preserve::align
