// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/json_document.h"

namespace preserve {

extern const std::string_view kScheduleSchema;

namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

// --- reading -------------------------------------------------------------------------------------

// The schema lists the same words.
template <typename Enum>
Enum enumerator(const json& word, std::initializer_list<Enum> all) {
  for (const Enum one : all) {
    if (word == to_string(one)) return one;
  }
  throw internal_error("the schema of schedules accepts {}", word.dump());
}

std::optional<OperatorPlace> read_place(const json& value, const char* path_key,
                                        const char* occurrence_key) {
  if (!value.contains(path_key)) return std::nullopt;  // the schema: then neither
  return OperatorPlace{value.at(path_key), value.at(occurrence_key)};
}

PlannedPrefetch read_prefetch(const json& value) {
  PlannedPrefetch prefetch;
  prefetch.tensor = value.at("tensor");
  prefetch.consumer_ordinal = value.at("consumer_ordinal");
  prefetch.consumer = value.at("consumer");
  prefetch.consumer_place = read_place(value, "consumer_path", "consumer_occurrence");
  prefetch.offset_bytes = value.at("offset_bytes");
  prefetch.length_bytes = value.at("length_bytes");
  prefetch.predicted_saved_ns = value.at("predicted_saved_ns");
  prefetch.next_step = value.at("next_step");
  return prefetch;
}

PlannedWindow read_window(const json& value) {
  PlannedWindow window;
  window.ordinal = value.at("ordinal");
  window.name = value.at("name");
  window.place = read_place(value, "path", "occurrence");
  window.usable_ns = value.at("usable_ns");
  window.capacity_bytes = value.at("capacity_bytes");
  window.used_bytes = value.at("used_bytes");
  window.shadow_price_ns_per_mib = value.at("shadow_price_ns_per_mib");
  window.binds = value.at("binds");
  for (const json& item : value.at("prefetches")) window.prefetches.push_back(read_prefetch(item));
  return window;
}

IssueMethod read_method(const json& value, const char* name_key) {
  IssueMethod method;
  method.name = value.at(name_key);
  method.placement = value.at("placement");
  method.chunk_bytes = value.at("chunk_bytes");
  method.ctas = value.at("ctas");
  method.eviction = value.at("eviction");
  method.issue = value.at("issue");
  return method;
}

PlanMeasurement read_measurement(const json& value) {
  PlanMeasurement measured;
  measured.speedup = value.at("speedup");
  measured.pairs = value.at("pairs");
  if (value.contains("low")) measured.low = value.at("low");
  if (value.contains("high")) measured.high = value.at("high");
  return measured;
}

Plan read_plan(const json& value) {
  Plan plan;
  plan.strategy = enumerator(value.at("strategy"), kStrategies);
  plan.verdict = enumerator(value.at("verdict"), {PlanVerdict::do_nothing, PlanVerdict::prefetch});
  plan.reasons = value.at("reasons").get<std::vector<std::string>>();
  const json& predicted = value.at("predicted");
  plan.baseline_step_ns = predicted.at("baseline_step_ns");
  plan.prefetch_step_ns = predicted.at("prefetch_step_ns");
  plan.speedup = predicted.at("speedup");
  plan.objective_ns = predicted.at("objective_ns");
  plan.cache_peak_bytes = value.at("cache").at("peak_bytes");
  plan.cache_shadow_price_ns_per_mib = value.at("cache").at("shadow_price_ns_per_mib");
  for (const json& window : value.at("windows")) plan.windows.push_back(read_window(window));
  if (value.contains("method")) plan.method = read_method(value.at("method"), "name");
  if (value.contains("measured")) plan.measured = read_measurement(value.at("measured"));
  return plan;
}

SignatureCall read_call(const json& value) {
  SignatureCall call;
  call.ordinal = value.at("ordinal");
  call.function = value.at("function");
  call.blocking = value.at("blocking");
  call.type = value.at("type");
  call.messages = value.at("messages");
  if (value.contains("bytes")) call.bytes = value.at("bytes");
  if (value.contains("ranks")) call.ranks = value.at("ranks");
  return call;
}

Schedule read_schedule(const json& document) {
  Schedule schedule;
  const json& trace = document.at("trace");
  schedule.trace_path = trace.at("path");
  schedule.trace_sha256 = trace.at("sha256");
  schedule.rank = trace.at("rank");
  schedule.ranks = trace.at("ranks");
  schedule.step_ops = trace.at("step_ops");
  schedule.prefill = trace.value("phase", "decode") == "prefill";
  if (document.contains("signature")) {
    for (const json& call : document.at("signature")) {
      schedule.signature.push_back(read_call(call));
    }
  }
  const json& device = document.at("device");
  schedule.device_name = device.at("name");
  schedule.method = read_method(device, "method");
  schedule.budget_bytes = document.at("budget_bytes");
  schedule.link_latency_ns = document.at("link_latency_ns");
  schedule.windows_mode = document.at("windows_mode");
  schedule.seed = document.at("seed");
  const json& bounds = document.at("bounds");
  schedule.all_hot_step_ns = bounds.at("all_hot_step_ns");
  schedule.window_limited_step_ns = bounds.at("window_limited_step_ns");
  schedule.cache_limited_step_ns = bounds.at("cache_limited_step_ns");
  schedule.warnings = document.at("warnings").get<std::vector<std::string>>();
  schedule.plan = read_plan(document);
  for (const json& candidate : document.at("candidates")) {
    schedule.candidates.push_back(read_plan(candidate));
  }
  return schedule;
}

// --- what the schema cannot say ------------------------------------------------------------------

class PlanCheck {
 public:
  PlanCheck(const Schedule& schedule, const fs::path& path) : schedule_(schedule), path_(path) {}

  void check_signature() const {
    for (size_t i = 0; i < schedule_.signature.size(); ++i) {
      const std::string at = fmt::format("/signature/{}/ordinal", i);
      const int32_t ordinal = schedule_.signature[i].ordinal;
      check_ordinal(ordinal, at);
      if (i == 0 || ordinal > schedule_.signature[i - 1].ordinal) continue;
      throw input_error("{}: at {}: collectives must ascend, but {} follows {}", path_.string(), at,
                        ordinal, schedule_.signature[i - 1].ordinal);
    }
  }

  void check(const Plan& plan, const std::string& pointer) {
    uses_.clear();
    for (size_t w = 0; w < plan.windows.size(); ++w) {
      const PlannedWindow& window = plan.windows[w];
      const std::string at = fmt::format("{}/windows/{}", pointer, w);
      check_ordinal(window.ordinal, at + "/ordinal");
      if (w > 0 && window.ordinal <= plan.windows[w - 1].ordinal) {
        throw input_error("{}: at {}/ordinal: windows must ascend, but {} follows {}",
                          path_.string(), at, window.ordinal, plan.windows[w - 1].ordinal);
      }
      check_window(window, at);
    }
    check_each_byte_once(pointer);
    if (plan.measured) check_measurement(*plan.measured, pointer + "/measured");
    if (plan.verdict == PlanVerdict::do_nothing && (!uses_.empty() || plan.speedup != 1)) {
      throw input_error("{}: at {}/verdict: do-nothing, but the plan prefetches or has a speed-up",
                        path_.string(), pointer);
    }
    if (plan.cache_peak_bytes > schedule_.budget_bytes) {
      throw input_error("{}: at {}/cache/peak_bytes: {} is above budget_bytes {}", path_.string(),
                        pointer, plan.cache_peak_bytes, schedule_.budget_bytes);
    }
  }

 private:
  struct Use {
    int32_t consumer;
    const std::string* tensor;
    int64_t begin, end;
    std::string pointer;
  };

  void check_ordinal(int32_t ordinal, const std::string& at) const {
    if (ordinal < schedule_.step_ops) return;
    throw input_error("{}: at {}: operator {} does not exist, the step has {} operators",
                      path_.string(), at, ordinal, schedule_.step_ops);
  }

  void check_measurement(const PlanMeasurement& measured, const std::string& at) const {
    if (measured.low.has_value() != measured.high.has_value()) {
      throw input_error("{}: at {}: low and high come together", path_.string(), at);
    }
    if (!measured.low ||
        (*measured.low <= measured.speedup && measured.speedup <= *measured.high)) {
      return;
    }
    throw input_error("{}: at {}: the speed-up {} is not within low {} and high {}", path_.string(),
                      at, measured.speedup, *measured.low, *measured.high);
  }

  void check_window(const PlannedWindow& window, const std::string& at) {
    int64_t used = 0;
    for (size_t p = 0; p < window.prefetches.size(); ++p) {
      const PlannedPrefetch& prefetch = window.prefetches[p];
      const std::string here = fmt::format("{}/prefetches/{}", at, p);
      check_ordinal(prefetch.consumer_ordinal, here + "/consumer_ordinal");
      used = checked_add(used, prefetch.length_bytes, here + "/length_bytes");
      uses_.push_back({prefetch.consumer_ordinal, &prefetch.tensor, prefetch.offset_bytes,
                       prefetch.offset_bytes + prefetch.length_bytes, here});
    }
    if (used != window.used_bytes) {
      throw input_error("{}: at {}/used_bytes: {} is not the sum of its prefetches, {}",
                        path_.string(), at, window.used_bytes, used);
    }
  }

  // A use is one reading of a tensor by one operator; a byte may be fetched for it only once.
  void check_each_byte_once(const std::string& plan_pointer) {
    std::sort(uses_.begin(), uses_.end(), [](const Use& a, const Use& b) {
      return std::tie(a.consumer, *a.tensor, a.begin) < std::tie(b.consumer, *b.tensor, b.begin);
    });
    for (size_t i = 1; i < uses_.size(); ++i) {
      const Use& before = uses_[i - 1];
      const Use& use = uses_[i];
      const bool same_use = before.consumer == use.consumer && *before.tensor == *use.tensor;
      if (!same_use || use.begin >= before.end) continue;
      throw input_error("{}: at {}: byte {} of {} is fetched twice for operator {} (also at {})",
                        path_.string(), use.pointer.empty() ? plan_pointer : use.pointer, use.begin,
                        *use.tensor, use.consumer, before.pointer);
    }
  }

  const Schedule& schedule_;
  const fs::path& path_;
  std::vector<Use> uses_;
};

void check_format(const json& document, const fs::path& path) {
  if (!document.is_object() || document.value("schema", json()) != "preserve/schedule") {
    throw input_error(
        "{} is not a schedule: it lacks \"schema\": \"preserve/schedule\"; preserve-tune makes one",
        path.string());
  }
  check_version(document, "schedule", kScheduleVersion, path);
}

// --- writing -------------------------------------------------------------------------------------

double finite(double value, const char* what) {
  if (!std::isfinite(value)) throw internal_error("the schedule's {} is not a number", what);
  return value;
}

// Larger ones would be rounded by readers that keep numbers as doubles; load_schedule() refuses
// them.
void check_integers(const ordered_json& value) {
  for (const ordered_json& item : value) {
    if (item.is_structured()) {
      check_integers(item);
    } else if (item.is_number_integer() && (item > kMaxJsonInteger || item < -kMaxJsonInteger)) {
      throw input_error(
          "the schedule would hold {}, more than the {} that every reader of JSON keeps exactly: "
          "check the times and sizes of the trace, and --link",
          item.dump(), kMaxJsonInteger);
    }
  }
}

void write_place(const std::optional<OperatorPlace>& place, const char* path_key,
                 const char* occurrence_key, ordered_json& out) {
  if (!place) return;
  out[path_key] = place->path;
  out[occurrence_key] = place->occurrence;
}

ordered_json write_window(const PlannedWindow& window) {
  ordered_json prefetches = ordered_json::array();
  for (const PlannedPrefetch& prefetch : window.prefetches) {
    ordered_json item{{"tensor", prefetch.tensor},
                      {"consumer_ordinal", prefetch.consumer_ordinal},
                      {"consumer", prefetch.consumer},
                      {"offset_bytes", prefetch.offset_bytes},
                      {"length_bytes", prefetch.length_bytes},
                      {"predicted_saved_ns", finite(prefetch.predicted_saved_ns, "saved time")},
                      {"next_step", prefetch.next_step}};
    write_place(prefetch.consumer_place, "consumer_path", "consumer_occurrence", item);
    prefetches.push_back(std::move(item));
  }
  ordered_json out{
      {"ordinal", window.ordinal},
      {"name", window.name},
      {"usable_ns", window.usable_ns},
      {"capacity_bytes", window.capacity_bytes},
      {"used_bytes", window.used_bytes},
      {"shadow_price_ns_per_mib", finite(window.shadow_price_ns_per_mib, "window price")},
      {"binds", window.binds},
      {"prefetches", std::move(prefetches)}};
  write_place(window.place, "path", "occurrence", out);
  return out;
}

ordered_json write_call(const SignatureCall& call) {
  ordered_json out{{"ordinal", call.ordinal},
                   {"function", call.function},
                   {"blocking", call.blocking},
                   {"type", call.type},
                   {"messages", call.messages}};
  if (call.bytes) out["bytes"] = *call.bytes;
  if (call.ranks) out["ranks"] = *call.ranks;
  return out;
}

ordered_json write_method(const IssueMethod& method, const char* name_key) {
  return {
      {name_key, method.name}, {"placement", method.placement}, {"chunk_bytes", method.chunk_bytes},
      {"ctas", method.ctas},   {"eviction", method.eviction},   {"issue", method.issue}};
}

ordered_json write_measurement(const PlanMeasurement& measured) {
  ordered_json out{{"speedup", finite(measured.speedup, "measured speed-up")}};
  if (measured.low) out["low"] = finite(*measured.low, "measured interval");
  if (measured.high) out["high"] = finite(*measured.high, "measured interval");
  out["pairs"] = measured.pairs;
  return out;
}

ordered_json write_plan(const Plan& plan) {
  ordered_json windows = ordered_json::array();
  for (const PlannedWindow& window : plan.windows) windows.push_back(write_window(window));
  ordered_json out{
      {"strategy", to_string(plan.strategy)},
      {"verdict", to_string(plan.verdict)},
      {"reasons", plan.reasons},
      {"predicted",
       {{"baseline_step_ns", plan.baseline_step_ns},
        {"prefetch_step_ns", plan.prefetch_step_ns},
        {"speedup", finite(plan.speedup, "speed-up")},
        {"objective_ns", plan.objective_ns}}},
      {"cache",
       {{"peak_bytes", plan.cache_peak_bytes},
        {"shadow_price_ns_per_mib", finite(plan.cache_shadow_price_ns_per_mib, "cache price")}}},
      {"windows", std::move(windows)}};
  if (plan.method) out["method"] = write_method(*plan.method, "name");
  if (plan.measured) out["measured"] = write_measurement(*plan.measured);
  return out;
}

}  // namespace

const char* to_string(Strategy strategy) {
  switch (strategy) {
    case Strategy::none:
      return "none";
    case Strategy::bfs:
      return "bfs";
    case Strategy::flow:
      return "flow";
  }
  return "?";
}

const char* to_string(PlanVerdict verdict) {
  return verdict == PlanVerdict::prefetch ? "prefetch" : "do-nothing";
}

const IssueMethod& method_of(const Schedule& schedule, const Plan& plan) {
  return plan.method ? *plan.method : schedule.method;
}

int64_t used_windows(const Plan& plan) {
  return std::count_if(plan.windows.begin(), plan.windows.end(),
                       [](const PlannedWindow& window) { return window.used_bytes > 0; });
}

std::string describe(const IssueMethod& method) {
  std::string text = fmt::format("{} on the {}", printable(method.name, 60),
                                 method.placement == "spare" ? "spare core" : "consumer's core");
  if (method.ctas > 0) {
    text =
        fmt::format("{} by {}", printable(method.name, 60), count_of(method.ctas, "thread block"));
  }
  if (method.chunk_bytes > 0) {
    text += fmt::format(", {} at a time", format_size(method.chunk_bytes));
  }
  if (method.eviction != "normal") text += ", evicted last";
  if (method.issue == "before") text += ", before the collective";
  return text;
}

PlannedStep planned_step(const Schedule& schedule) {
  return {schedule.rank, schedule.prefill};
}

std::optional<PlannedStep> peek_planned_step(const fs::path& path) {
  std::string head(size_t{16} << 10, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  std::optional<PlannedStep> planned;
  bool in_trace = false;
  const auto look = [&](int depth, json::parse_event_t event, const json& value) {
    if (depth == 1 && event == json::parse_event_t::key) in_trace = value == "trace";
    if (depth == 1 && event == json::parse_event_t::object_end && in_trace) {
      const json rank = value.value("rank", json());
      if (rank.is_number_integer()) {
        planned = {rank.get<int64_t>(), value.value("phase", json()) == "prefill"};
      }
    }
    return true;
  };
  std::ignore = json::parse(head, look, false);  // breaks off where the beginning ends
  return planned;
}

Schedule load_schedule(const fs::path& path) {
  const json document = parse_json_file(path);
  check_format(document, path);
  validate_json(document, kScheduleSchema, path);
  Schedule schedule = read_schedule(document);
  PlanCheck check(schedule, path);
  check.check_signature();
  check.check(schedule.plan, "");
  for (size_t i = 0; i < schedule.candidates.size(); ++i) {
    check.check(schedule.candidates[i], fmt::format("/candidates/{}", i));
  }
  return schedule;
}

std::string to_json(const Schedule& schedule) {
  ordered_json device{{"name", schedule.device_name}};
  device.update(write_method(schedule.method, "method"));
  ordered_json document{{"schema", "preserve/schedule"},
                        {"version", kScheduleVersion},
                        {"trace",
                         {{"path", schedule.trace_path},
                          {"sha256", schedule.trace_sha256},
                          {"rank", schedule.rank},
                          {"ranks", schedule.ranks},
                          {"step_ops", schedule.step_ops}}},
                        {"device", std::move(device)},
                        {"budget_bytes", schedule.budget_bytes},
                        {"link_latency_ns", schedule.link_latency_ns},
                        {"windows_mode", schedule.windows_mode},
                        {"seed", schedule.seed}};
  if (schedule.prefill) document["trace"]["phase"] = "prefill";
  ordered_json signature = ordered_json::array();
  for (const SignatureCall& call : schedule.signature) signature.push_back(write_call(call));
  document["signature"] = std::move(signature);
  document.update(write_plan(schedule.plan));
  document["bounds"] = {{"all_hot_step_ns", schedule.all_hot_step_ns},
                        {"window_limited_step_ns", schedule.window_limited_step_ns},
                        {"cache_limited_step_ns", schedule.cache_limited_step_ns}};
  document["warnings"] = schedule.warnings;
  ordered_json candidates = ordered_json::array();
  for (const Plan& plan : schedule.candidates) candidates.push_back(write_plan(plan));
  document["candidates"] = std::move(candidates);
  check_integers(document);
  return dump_json(document);
}

void require_same_trace(const Schedule& schedule, const fs::path& schedule_path,
                        const fs::path& trace_path) {
  const std::string actual = sha256_of_file(trace_path);
  if (actual == schedule.trace_sha256) return;
  if (schedule.trace_sha256.empty()) {
    throw input_error("{} was planned from a model, not from {}: plan again with preserve-tune {}",
                      schedule_path.string(), trace_path.string(), trace_path.string());
  }
  throw input_error(
      "{} was made from another trace: it expects sha256 {} ({}), but {} has {}; plan again with "
      "preserve-tune {}, or, where both recorded one program, replay with --other-recording",
      schedule_path.string(), schedule.trace_sha256, schedule.trace_path, trace_path.string(),
      actual, trace_path.string());
}

}  // namespace preserve
