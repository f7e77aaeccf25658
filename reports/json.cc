// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "reports/json_parts.h"
#include "reports/render.h"

namespace preserve::report {
namespace {

ordered_json interval_of_ns(const Interval& interval) {
  return {{"low", std::llround(interval.low)},
          {"estimate", std::llround(interval.estimate)},
          {"high", std::llround(interval.high)}};
}

// "name": value, or "name": null with "name_reason".
template <typename T, typename Write>
void put(ordered_json& object, const std::string& name, const Known<T>& known, Write write) {
  if (known) {
    object[name] = write(*known);
  } else {
    object[name] = nullptr;
    object[name + "_reason"] = known.reason;
  }
}

ordered_json write_named(const NamedText& text) {
  return {{"name", text.name}, {"value", text.value}};
}

ordered_json write_machine(const Machine& machine) {
  return {{"host", machine.host},
          {"device", machine.device},
          {"cache_bytes", optional(machine.cache_bytes)},
          {"memory_bandwidth_bytes_per_s", optional(machine.memory_bandwidth_bytes_per_s)},
          {"units", optional(machine.units)}};
}

ordered_json write_recording(const Recording& recording) {
  ordered_json rows = ordered_json::object();
  for (const auto& [table, count] : recording.rows) rows[table] = count;
  return {{"command", recording.command},
          {"tool_version", recording.tool_version},
          {"ranks", recording.ranks},
          {"processes", recording.processes},
          {"complete", recording.complete},
          {"machines", array_of(recording.machines, write_machine)},
          {"environment", array_of(recording.environment, write_named)},
          {"losses", array_of(recording.losses,
                              [](const Loss& loss) -> ordered_json {
                                return {{"rank", optional(loss.rank)},
                                        {"source", loss.source},
                                        {"kind", loss.kind},
                                        {"count", loss.count}};
                              })},
          {"rows", std::move(rows)}};
}

ordered_json write_step(const Step& step) {
  ordered_json json{{"rank", step.rank},
                    {"world_size", step.world_size},
                    {"source", step.source},
                    {"steps_total", step.steps_total},
                    {"steps_used", step.steps_used},
                    {"wall_ns", step.wall_ns},
                    {"wall_mad_ns", step.wall_mad_ns},
                    {"streams", step.streams}};
  if (step.left_out > 0) {
    json["left_out"] = step.left_out;
    json["left_out_bytes"] = step.left_out_bytes;
  }
  json["operators"] = array_of(step.ops, [](const TimelineOp& op) -> ordered_json {
    return {{"ordinal", op.ordinal},   {"name", op.name},
            {"kind", op.kind},         {"stream", op.stream},
            {"start_ns", op.start_ns}, {"dur_ns", op.dur_ns},
            {"mad_ns", op.mad_ns},     {"weight_bytes", op.weight_bytes},
            {"kv_bytes", op.kv_bytes}};
  });
  return json;
}

ordered_json write_rank_time(const RankTime& rank) {
  ordered_json classes = ordered_json::array();
  for (size_t c = 0; c < kTimeClasses.size(); ++c) {
    classes.push_back({{"class", kTimeClasses[c]},
                       {"exclusive_ns", rank.classes[c].exclusive_ns},
                       {"busy_ns", rank.classes[c].busy_ns},
                       {"operators", rank.classes[c].operators}});
  }
  return {{"rank", optional(rank.rank)},
          {"process", rank.process},
          {"steps", rank.steps},
          {"wall_ns", rank.wall_ns},
          {"classes", std::move(classes)}};
}

ordered_json write_time_use(const TimeUse& use) {
  return {
      {"scope", use.scope},
      {"operators", use.operators},
      {"total_ns", use.total_ns},
      {"ranks", array_of(use.ranks, write_rank_time)},
      {"top_operators", array_of(use.top,
                                 [](const OperatorTotal& total) -> ordered_json {
                                   return {{"name", total.name},         {"kind", total.kind},
                                           {"names", total.names},       {"count", total.count},
                                           {"total_ns", total.total_ns}, {"min_ns", total.min_ns},
                                           {"max_ns", total.max_ns}};
                                 })},
      {"collectives", array_of(use.collectives, [](const CollectiveGroup& group) -> ordered_json {
         return {{"function", group.function},     {"dtype", group.dtype},
                 {"bytes", optional(group.bytes)}, {"ranks", optional(group.ranks)},
                 {"count", group.count},           {"total_ns", group.total_ns},
                 {"min_ns", group.min_ns},         {"p10_ns", group.p10_ns},
                 {"median_ns", group.median_ns},   {"p90_ns", group.p90_ns},
                 {"max_ns", group.max_ns}};
       })}};
}

ordered_json write_counters(const CounterTotal& total) {
  ordered_json json{{"name", total.name}, {"range", total.range}, {"count", total.count}};
  for (size_t i = 0; i < kCounterMetrics.size(); ++i) {
    const auto& bytes = total.metrics[i];
    json[std::string(kCounterMetrics[i])] =
        bytes ? ordered_json{{"mean", bytes->mean}, {"min", bytes->least}, {"max", bytes->most}}
              : ordered_json(nullptr);
  }
  json["named_read_bytes"] = optional(total.named_read_bytes);
  return json;
}

ordered_json write_window(const Window& window) {
  return {{"ordinal", window.ordinal},
          {"name", window.name},
          {"binds", window.binds},
          {"usable_ns", window.usable_ns},
          {"capacity_bytes", window.capacity_bytes},
          {"used_bytes", window.used_bytes},
          {"predicted_saved_ns", window.predicted_saved_ns},
          {"shadow_price_ns_per_mib", ratio(window.shadow_price_ns_per_mib)},
          {"prefetches", array_of(window.prefetches, [](const Prefetch& p) -> ordered_json {
             return {{"tensor", p.tensor},
                     {"consumer", p.consumer},
                     {"consumer_ordinal", p.consumer_ordinal},
                     {"next_step", p.next_step},
                     {"offset_bytes", p.offset_bytes},
                     {"length_bytes", p.length_bytes},
                     {"predicted_saved_ns", p.predicted_saved_ns}};
           })}};
}

ordered_json write_tried(const TriedPlan& tried) {
  ordered_json json{{"chosen", tried.chosen},
                    {"strategy", tried.strategy},
                    {"issued_by", tried.issue},
                    {"prefetched_bytes", tried.prefetched_bytes},
                    {"predicted_speedup", ratio(tried.predicted_speedup)},
                    {"pairs", tried.pairs}};
  put(json, "speedup", tried.speedup, interval_of_ratio);
  return json;
}

ordered_json write_plan(const PlanView& plan) {
  ordered_json json{{"strategy", plan.strategy},
                    {"verdict", plan.verdict},
                    {"reasons", plan.reasons},
                    {"device", plan.device},
                    {"method", plan.method},
                    {"placement", plan.placement},
                    {"chunk_bytes", plan.chunk_bytes},
                    {"budget_bytes", plan.budget_bytes},
                    {"seed", plan.seed},
                    {"predicted",
                     {{"baseline_step_ns", plan.baseline_step_ns},
                      {"prefetch_step_ns", plan.prefetch_step_ns},
                      {"speedup", ratio(plan.speedup)}}},
                    {"bounds",
                     {{"all_hot_step_ns", plan.all_hot_step_ns},
                      {"window_limited_step_ns", plan.window_limited_step_ns},
                      {"cache_limited_step_ns", plan.cache_limited_step_ns}}},
                    {"prefetched_bytes", plan.prefetched_bytes},
                    {"cache",
                     {{"peak_bytes", plan.cache_peak_bytes},
                      {"shadow_price_ns_per_mib", ratio(plan.cache_shadow_price_ns_per_mib)},
                      {"occupancy_bytes", plan.occupancy_bytes}}},
                    {"windows", array_of(plan.windows, write_window)}};
  if (!plan.tried.empty()) json["tried"] = array_of(plan.tried, write_tried);
  return json;
}

ordered_json write_arm(const Arm& arm) {
  ordered_json json{{"name", arm.name}, {"samples", arm.samples}};
  ordered_json discarded = ordered_json::object();
  for (const auto& [reason, count] : arm.discarded) discarded[reason] = count;
  json["discarded"] = std::move(discarded);
  put(json, "step_ns", arm.step_ns, interval_of_ns);
  json["pairs"] = arm.pairs;
  put(json, "speedup", arm.speedup, interval_of_ratio);
  json["issued_bytes"] = std::llround(arm.issued_bytes);
  ordered_json taken{{"every", arm.taken_every},
                     {"pair", ordered_json::array()},
                     {"step_ns", ordered_json::array()},
                     {"discarded", ordered_json::array()}};
  for (const Sample& sample : arm.taken) {
    taken["pair"].push_back(sample.pair);
    taken["step_ns"].push_back(sample.step_ns);
    taken["discarded"].push_back(text_or_null(sample.discarded));
  }
  json["taken"] = std::move(taken);
  return json;
}

ordered_json write_why(const WhyBar& bar) {
  return {{"part", bar.part},   {"name", bar.name},     {"meaning", bar.meaning},
          {"total", bar.total}, {"dur_ns", bar.dur_ns}, {"windows", bar.windows}};
}

ordered_json write_headline(const Headline& headline) {
  return {{"label", headline.label},
          {"verdict", headline.verdict},
          {"basis", headline.basis},
          {"sentence", headline.sentence},
          {"reason", headline.reason},
          {"advice", headline.advice},
          {"advice_worth_ns", optional(headline.advice_worth_ns)},
          {"prices", headline.prices},
          {"marks", array_of(headline.marks, [](const Headline::Mark& mark) -> ordered_json {
             return {{"name", mark.name},
                     {"low", ratio(mark.low)},
                     {"estimate", ratio(mark.estimate)},
                     {"high", ratio(mark.high)}};
           })}};
}

ordered_json write_fidelity(const Fidelity& fidelity) {
  ordered_json json{{"step", ratio(fidelity.step)}};
  put(json, "operators_median", fidelity.operators, ratio);
  put(json, "operators_p10", fidelity.operators_p10, ratio);
  put(json, "operators_p90", fidelity.operators_p90, ratio);
  return json;
}

ordered_json write_measured(const Measured& measured) {
  ordered_json json{{"replay", measured.replay_path},
                    {"applied", measured.applied},
                    {"planned_bytes", measured.planned_bytes},
                    {"facts", array_of(measured.facts, write_named)},
                    {"machines", array_of(measured.machines, write_machine)},
                    {"arms", array_of(measured.arms, write_arm)}};
  put(json, "speedup", measured.speedup, interval_of_ratio);
  json["verdict"] = text_or_null(measured.verdict);
  put(json, "fidelity", measured.fidelity, write_fidelity);
  put(json, "prediction_error", measured.prediction_error, ratio);
  put(json, "collective_slowdown", measured.collective_slowdown, ratio);
  return json;
}

ordered_json write_scenario(const Scenario& scenario) {
  ordered_json json{{"label", scenario.label},
                    {"sentence", scenario.sentence},
                    {"schedule", scenario.schedule_path},
                    {"schedule_sha256", scenario.schedule_sha256},
                    {"link_latency_ns", scenario.link_latency_ns},
                    {"stand_in_link", scenario.link_latency_ns > 0},
                    {"plan", write_plan(scenario.plan)}};
  put(json, "measured", scenario.measured, write_measured);
  if (scenario.left_out_baseline_ns != 0 || scenario.left_out_prefetch_ns != 0) {
    json["left_out"] = {{"baseline_ns", scenario.left_out_baseline_ns},
                        {"prefetch_ns", scenario.left_out_prefetch_ns}};
  }
  json["why"] = array_of(scenario.why, write_why);
  json["operators"] = array_of(scenario.operators, [](const OperatorTimes& op) -> ordered_json {
    ordered_json row{{"ordinal", op.ordinal},
                     {"name", op.name},
                     {"kind", op.kind},
                     {"recorded_ns", optional(op.recorded_ns)},
                     {"predicted_ns", optional(op.predicted_ns)},
                     {"baseline_ns", optional(op.baseline_ns)},
                     {"prefetch_ns", optional(op.prefetch_ns)}};
    if (op.hot_ns) row["hot_ns"] = *op.hot_ns;
    return row;
  });
  return json;
}

ordered_json write_change(const Change& change) {
  return {{"before", optional(change.before)}, {"after", optional(change.after)}};
}

ordered_json write_earlier(const Earlier& earlier) {
  return {{"path", earlier.path},
          {"command", earlier.command},
          {"sentence", earlier.sentence},
          {"differences", earlier.differences},
          {"step_ns", write_change(earlier.step_ns)},
          {"step", earlier.step_word},
          {"speedups", array_of(earlier.speedups,
                                [](const SpeedupChange& change) -> ordered_json {
                                  return {{"scenario", change.scenario},
                                          {"before", interval_of_ratio(change.before)},
                                          {"after", interval_of_ratio(change.after)},
                                          {"change", change.word}};
                                })},
          {"operators", array_of(earlier.operators,
                                 [](const OperatorChange& change) -> ordered_json {
                                   return {{"name", change.name},
                                           {"kind", change.kind},
                                           {"count", write_change(change.count)},
                                           {"dur_ns", write_change(change.dur_ns)}};
                                 })},
          {"windows", array_of(earlier.windows, [](const WindowChange& change) -> ordered_json {
             return {{"scenario", change.scenario},
                     {"ordinal", change.ordinal},
                     {"name", change.name},
                     {"used_bytes", write_change(change.used_bytes)},
                     {"predicted_saved_ns", write_change(change.predicted_saved_ns)}};
           })}};
}

}  // namespace

std::string to_json(const Report& report, int indent) {
  ordered_json json{{"schema", "preserve/report"},
                    {"version", kReportVersion},
                    {"tool_version", PRESERVE_VERSION},
                    {"inputs", array_of(report.inputs,
                                        [](const InputFile& file) -> ordered_json {
                                          return {{"path", file.path.string()},
                                                  {"kind", to_text(file.kind)},
                                                  {"bytes", file.bytes},
                                                  {"sha256", file.sha256}};
                                        })},
                    {"sentences", report.sentences},
                    {"headlines", array_of(report.headlines, write_headline)},
                    {"warnings", array_of(report.warnings,
                                          [](const Warning& warning) -> ordered_json {
                                            return {{"severity", to_text(warning.severity)},
                                                    {"source", warning.source},
                                                    {"text", warning.text}};
                                          })},
                    {"recording", write_recording(report.recording)}};
  put(json, "step", report.step, write_step);
  json["time_use"] = write_time_use(report.time_use);
  if (!report.counters.empty()) json["counters"] = array_of(report.counters, write_counters);
  json["scenarios"] = array_of(report.scenarios, write_scenario);
  if (!report.earlier.empty()) json["earlier"] = array_of(report.earlier, write_earlier);
  return json.dump(indent) + "\n";
}

}  // namespace preserve::report
