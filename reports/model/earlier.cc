// SPDX-License-Identifier: Apache-2.0
#include "reports/model/earlier.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "common/error.h"
#include "common/units.h"
#include "planner/schedule/json_document.h"
#include "reports/render.h"
#include "reports/text.h"

namespace preserve {
extern const std::string_view kReportSchema;
}

namespace preserve::report {
namespace {

using nlohmann::json;

// Reads values that the schema has found well-typed; integers may still be too large.
class Document {
 public:
  explicit Document(const std::filesystem::path& path) : path_(path), root_(parse_json_file(path)) {
    if (!root_.is_object() || root_.value("schema", json()) != "preserve/report") {
      throw input_error("{}: --baseline takes the report.json of an earlier run", path.string());
    }
    check_version(root_, "report", kReportVersion, path);
    validate_json(root_, kReportSchema, path);
  }
  const json& root() const { return root_; }

  int64_t integer(const json& value) const {
    if (!value.is_number_integer() || value > kMaxJsonInteger || value < -kMaxJsonInteger) {
      throw input_error("{}: invalid time or size '{}': expected at most {}", path_.string(),
                        value.dump().substr(0, 40), kMaxJsonInteger);
    }
    return value.get<int64_t>();
  }
  std::string text(const json& value) const { return clean(value.get<std::string>()); }

 private:
  std::filesystem::path path_;
  json root_;
};

void add(std::optional<int64_t>& sum, int64_t value) {
  sum = checked_add(sum.value_or(0), value, "time of an operator");
}

using OperatorKey = std::pair<std::string, std::string>;  // name without layers, kind

std::vector<OperatorChange> compare_operators(const Document& earlier, const Report& now) {
  std::map<OperatorKey, OperatorChange> changes;
  if (const json& step = earlier.root().at("step"); !step.is_null()) {
    for (const json& op : step.at("operators")) {
      OperatorChange& change = changes[{without_layer_numbers(earlier.text(op.at("name"))),
                                        earlier.text(op.at("kind"))}];
      add(change.dur_ns.before, earlier.integer(op.at("dur_ns")));
      add(change.count.before, 1);
    }
  }
  if (now.step) {
    for (const TimelineOp& op : now.step->ops) {
      OperatorChange& change = changes[{without_layer_numbers(op.name), op.kind}];
      add(change.dur_ns.after, op.dur_ns);
      add(change.count.after, 1);
    }
  }
  std::vector<OperatorChange> rows;
  for (auto& [key, change] : changes) {
    std::tie(change.name, change.kind) = key;
    rows.push_back(std::move(change));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return std::llabs(a.dur_ns.difference()) > std::llabs(b.dur_ns.difference());
  });
  return rows;
}

std::vector<WindowChange> compare_windows(const Document& earlier, const Report& now) {
  std::map<std::tuple<std::string, int64_t, std::string>, WindowChange> changes;
  for (const json& scenario : earlier.root().at("scenarios")) {
    for (const json& window : scenario.at("plan").at("windows")) {
      WindowChange& change =
          changes[{earlier.text(scenario.at("label")), earlier.integer(window.at("ordinal")),
                   earlier.text(window.at("name"))}];
      change.used_bytes.before = earlier.integer(window.at("used_bytes"));
      change.predicted_saved_ns.before = earlier.integer(window.at("predicted_saved_ns"));
    }
  }
  for (const Scenario& scenario : now.scenarios) {
    for (const Window& window : scenario.plan.windows) {
      WindowChange& change = changes[{scenario.label, window.ordinal, window.name}];
      change.used_bytes.after = window.used_bytes;
      change.predicted_saved_ns.after = window.predicted_saved_ns;
    }
  }
  std::vector<WindowChange> rows;
  for (auto& [key, change] : changes) {
    if (change.used_bytes.difference() == 0 && change.predicted_saved_ns.difference() == 0)
      continue;
    change.scenario = std::get<0>(key);
    change.ordinal = static_cast<int32_t>(std::get<1>(key));
    change.name = std::get<2>(key);
    rows.push_back(std::move(change));
  }
  return rows;
}

std::vector<SpeedupChange> compare_speedups(const Document& earlier, const Report& now) {
  std::vector<SpeedupChange> rows;
  for (const Scenario& scenario : now.scenarios) {
    if (!scenario.measured || !scenario.measured->speedup) continue;
    for (const json& other : earlier.root().at("scenarios")) {
      const json& measured = other.at("measured");
      if (earlier.text(other.at("label")) != scenario.label || measured.is_null() ||
          measured.at("speedup").is_null()) {
        continue;
      }
      const json& speedup = measured.at("speedup");
      SpeedupChange change{scenario.label,
                           {speedup.at("low").get<double>(), speedup.at("estimate").get<double>(),
                            speedup.at("high").get<double>()},
                           *scenario.measured->speedup,
                           "undecided"};
      if (change.after.low > change.before.high) change.word = "higher";
      if (change.after.high < change.before.low) change.word = "lower";
      rows.push_back(std::move(change));
      break;
    }
  }
  return rows;
}

// Half of an interval of about 95 % of a median: the notch of a box plot (McGill, Tukey, Larsen
// 1978), 1.57 quartile distances over the root of the samples; two deviations make a distance.
double notch_ns(int64_t mad_ns, int64_t steps) {
  constexpr double kNotch = 1.57 * 2;
  return kNotch * static_cast<double>(mad_ns) /
         std::sqrt(static_cast<double>(std::max<int64_t>(1, steps)));
}

void compare_steps(const Document& document, const Report& now, Earlier& earlier) {
  const json& step = document.root().at("step");
  double reach_ns = 0;
  if (!step.is_null()) {
    earlier.step_ns.before = document.integer(step.at("wall_ns"));
    reach_ns +=
        notch_ns(document.integer(step.at("wall_mad_ns")), document.integer(step.at("steps_used")));
  }
  if (now.step) {
    earlier.step_ns.after = now.step->wall_ns;
    reach_ns += notch_ns(now.step->wall_mad_ns, now.step->steps_used);
  }
  earlier.step_word = "undecided";
  if (!earlier.step_ns.before || !earlier.step_ns.after) return;
  const auto difference_ns = static_cast<double>(earlier.step_ns.difference());
  if (difference_ns > reach_ns) earlier.step_word = "slower";
  if (difference_ns < -reach_ns) earlier.step_word = "faster";
}

}  // namespace

Earlier compare_with(const std::filesystem::path& report_json, const Report& now) {
  const Document document(report_json);
  Earlier earlier{.path = clean(report_json.string()),
                  .command = document.text(document.root().at("recording").at("command"))};
  compare_steps(document, now, earlier);
  earlier.speedups = compare_speedups(document, now);
  earlier.operators = compare_operators(document, now);
  earlier.windows = compare_windows(document, now);
  return earlier;
}

}  // namespace preserve::report
