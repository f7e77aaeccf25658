// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "common/error.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/json_document.h"
#include "planner/schedule/json_fields.h"

namespace preserve {

extern const std::string_view kScheduleSchema;

namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

const JsonFormat kFormat{"preserve/schedule", "schedule", kScheduleVersion, kScheduleSchema};

}  // namespace

// --- fields, in the order in which files have them -----------------------------------------------

template <typename Fields>
static void describe_place(Fields& fields, FieldsOf<Fields, std::optional<OperatorPlace>>& place,
                           const char* path_key, const char* occurrence_key) {
  fields.together(path_key, place, [&](auto& known) {
    fields(path_key, known.path);
    fields(occurrence_key, known.occurrence);
  });
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, PlannedPrefetch>& prefetch) {
  fields("tensor", prefetch.tensor);
  fields("consumer_ordinal", prefetch.consumer_ordinal);
  fields("consumer", prefetch.consumer);
  fields("offset_bytes", prefetch.offset_bytes);
  fields("length_bytes", prefetch.length_bytes);
  fields("predicted_saved_ns", prefetch.predicted_saved_ns);
  fields("next_step", prefetch.next_step);
  describe_place(fields, prefetch.consumer_place, "consumer_path", "consumer_occurrence");
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, PlannedWindow>& window) {
  fields("ordinal", window.ordinal);
  fields("name", window.name);
  fields("usable_ns", window.usable_ns);
  fields("capacity_bytes", window.capacity_bytes);
  fields("used_bytes", window.used_bytes);
  fields("shadow_price_ns_per_mib", window.shadow_price_ns_per_mib);
  fields("binds", window.binds);
  fields("prefetches", window.prefetches);
  describe_place(fields, window.place, "path", "occurrence");
}

template <typename Fields>
static void describe_method(Fields& fields, FieldsOf<Fields, IssueMethod>& method,
                            const char* name_key) {
  fields(name_key, method.name);
  fields("placement", method.placement);
  fields("chunk_bytes", method.chunk_bytes);
  fields("ctas", method.ctas);
  fields("eviction", method.eviction);
  fields("issue", method.issue);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, IssueMethod>& method) {
  describe_method(fields, method, "name");
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, PlanMeasurement>& measured) {
  fields("speedup", measured.speedup);
  fields.if_any("low", measured.low);
  fields.if_any("high", measured.high);
  fields("pairs", measured.pairs);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, Plan>& plan) {
  fields.word("strategy", plan.strategy, kStrategies);
  fields.word("verdict", plan.verdict, {PlanVerdict::do_nothing, PlanVerdict::prefetch});
  fields("reasons", plan.reasons);
  fields.group("predicted", [&](auto& predicted) {
    predicted("baseline_step_ns", plan.baseline_step_ns);
    predicted("prefetch_step_ns", plan.prefetch_step_ns);
    predicted("speedup", plan.speedup);
    predicted("objective_ns", plan.objective_ns);
  });
  fields.group("cache", [&](auto& cache) {
    cache("peak_bytes", plan.cache_peak_bytes);
    cache("shadow_price_ns_per_mib", plan.cache_shadow_price_ns_per_mib);
  });
  fields("windows", plan.windows);
  fields.if_any("method", plan.method);
  fields.if_any("measured", plan.measured);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, SignatureCall>& call) {
  fields("ordinal", call.ordinal);
  fields("function", call.function);
  fields("blocking", call.blocking);
  fields("type", call.type);
  fields("messages", call.messages);
  fields.if_any("bytes", call.bytes);
  fields.if_any("ranks", call.ranks);
}

template <typename Fields>
static void describe(Fields& fields, FieldsOf<Fields, Schedule>& schedule) {
  fields.group("trace", [&](auto& trace) {
    trace("path", schedule.trace_path);
    trace("sha256", schedule.trace_sha256);
    trace("rank", schedule.rank);
    trace("ranks", schedule.ranks);
    trace("step_ops", schedule.step_ops);
    trace.word_if("phase", "prefill", schedule.prefill);
  });
  fields.group("device", [&](auto& device) {
    device("name", schedule.device_name);
    describe_method(device, schedule.method, "method");
  });
  fields("budget_bytes", schedule.budget_bytes);
  fields("link_latency_ns", schedule.link_latency_ns);
  fields("windows_mode", schedule.windows_mode);
  fields("seed", schedule.seed);
  fields.or_default("signature", schedule.signature);
  describe(fields, schedule.plan);
  fields.group("bounds", [&](auto& bounds) {
    bounds("all_hot_step_ns", schedule.all_hot_step_ns);
    bounds("window_limited_step_ns", schedule.window_limited_step_ns);
    bounds("cache_limited_step_ns", schedule.cache_limited_step_ns);
  });
  fields("warnings", schedule.warnings);
  fields("candidates", schedule.candidates);
}

// --- what the schema cannot say ------------------------------------------------------------------

namespace {

class PlanCheck {
 public:
  PlanCheck(const Schedule& schedule, const fs::path& path) : schedule_(schedule), path_(path) {}

  void check_signature() const {
    for (size_t i = 0; i < schedule_.signature.size(); ++i) {
      const std::string at = fmt::format("/signature/{}/ordinal", i);
      const int32_t ordinal = schedule_.signature[i].ordinal;
      check_ordinal(ordinal, at);
      if (i == 0 || ordinal > schedule_.signature[i - 1].ordinal) continue;
      throw error_at(path_, at, "collectives must ascend, but {} follows {}", ordinal,
                     schedule_.signature[i - 1].ordinal);
    }
  }

  void check(const Plan& plan, const std::string& pointer) {
    uses_.clear();
    for (size_t w = 0; w < plan.windows.size(); ++w) {
      const PlannedWindow& window = plan.windows[w];
      const std::string at = fmt::format("{}/windows/{}", pointer, w);
      check_ordinal(window.ordinal, at + "/ordinal");
      if (w > 0 && window.ordinal <= plan.windows[w - 1].ordinal) {
        throw error_at(path_, at + "/ordinal", "windows must ascend, but {} follows {}",
                       window.ordinal, plan.windows[w - 1].ordinal);
      }
      check_window(window, at);
    }
    check_each_byte_once();
    if (plan.measured) check_measurement(*plan.measured, pointer + "/measured");
    if (plan.verdict == PlanVerdict::do_nothing && (!uses_.empty() || plan.speedup != 1)) {
      throw error_at(path_, pointer + "/verdict",
                     "do-nothing, but the plan prefetches or has a speed-up");
    }
    if (plan.cache_peak_bytes > schedule_.budget_bytes) {
      throw error_at(path_, pointer + "/cache/peak_bytes", "{} is above budget_bytes {}",
                     plan.cache_peak_bytes, schedule_.budget_bytes);
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
    throw error_at(path_, at, "operator {} does not exist, the step has {} operators", ordinal,
                   schedule_.step_ops);
  }

  void check_measurement(const PlanMeasurement& measured, const std::string& at) const {
    if (measured.low.has_value() != measured.high.has_value()) {
      throw error_at(path_, at, "low and high come together");
    }
    if (!measured.low ||
        (*measured.low <= measured.speedup && measured.speedup <= *measured.high)) {
      return;
    }
    throw error_at(path_, at, "the speed-up {} is not within low {} and high {}", measured.speedup,
                   *measured.low, *measured.high);
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
      throw error_at(path_, at + "/used_bytes", "{} is not the sum of its prefetches, {}",
                     window.used_bytes, used);
    }
  }

  // A use is one reading of a tensor by one operator; a byte may be fetched for it only once.
  void check_each_byte_once() {
    std::ranges::sort(uses_, [](const Use& a, const Use& b) {
      return std::tie(a.consumer, *a.tensor, a.begin) < std::tie(b.consumer, *b.tensor, b.begin);
    });
    for (size_t i = 1; i < uses_.size(); ++i) {
      const Use& before = uses_[i - 1];
      const Use& use = uses_[i];
      const bool same_use = before.consumer == use.consumer && *before.tensor == *use.tensor;
      if (!same_use || use.begin >= before.end) continue;
      throw error_at(path_, use.pointer,
                     "byte {} of {} is fetched twice for operator {} (also at {})", use.begin,
                     *use.tensor, use.consumer, before.pointer);
    }
  }

  const Schedule& schedule_;
  const fs::path& path_;
  std::vector<Use> uses_;
};

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

}  // namespace

const char* to_string(Strategy strategy) {
  return std::array{"none", "bfs", "flow"}.at(static_cast<size_t>(strategy));
}

const char* to_string(PlanVerdict verdict) {
  return verdict == PlanVerdict::prefetch ? "prefetch" : "do-nothing";
}

const IssueMethod& method_of(const Schedule& schedule, const Plan& plan) {
  return plan.method ? *plan.method : schedule.method;
}

int64_t used_windows(const Plan& plan) {
  return std::ranges::count_if(plan.windows,
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
  const json document = load_json(path, kFormat,
                                  " is not a schedule: it lacks \"schema\": "
                                  "\"preserve/schedule\"; preserve-tune makes one");
  Schedule schedule;
  FieldReader reader(document);
  describe(reader, schedule);
  PlanCheck check(schedule, path);
  check.check_signature();
  check.check(schedule.plan, "");
  for (size_t i = 0; i < schedule.candidates.size(); ++i) {
    check.check(schedule.candidates[i], fmt::format("/candidates/{}", i));
  }
  return schedule;
}

std::string to_json(const Schedule& schedule) {
  ordered_json document{{"schema", kFormat.schema}, {"version", kFormat.version}};
  FieldWriter writer(document);
  describe(writer, schedule);
  check_integers(document);
  return dump_json(document);
}

void require_same_trace(const Schedule& schedule, const fs::path& schedule_path,
                        const fs::path& trace_path) {
  const std::string actual = sha256_of_file(trace_path);
  if (actual == schedule.trace_sha256) return;
  if (schedule.trace_sha256.empty()) {
    throw input_error("{} was planned from a model, not from {}: plan again with preserve-tune {}",
                      schedule_path.string(), trace_path.string(), shell_word(trace_path.string()));
  }
  throw input_error(
      "{} was made from another trace: it expects sha256 {} ({}), but {} has {}; plan again with "
      "preserve-tune {}, or, where both recorded one program, replay with --other-recording",
      schedule_path.string(), schedule.trace_sha256, schedule.trace_path, trace_path.string(),
      actual, shell_word(trace_path.string()));
}

}  // namespace preserve
