// SPDX-License-Identifier: Apache-2.0
#include "reports/model/earlier.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "common/error.h"
#include "common/text.h"
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
  explicit Document(const std::filesystem::path& path)
      : path_(path),
        root_(load_json(
            path, {"preserve/report", "report", kReportVersion, kReportSchema},
            ": invalid baseline: expected the report.json of an earlier run, or a recording")) {}
  const json& root() const { return root_; }
  std::string path() const { return clean(path_.string()); }

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

// What of a run is compared with another, from wherever it comes.
struct Run {
  struct StepTime {
    int64_t wall_ns = 0, wall_mad_ns = 0, steps_used = 0;
  };
  struct OperatorTime {
    std::string name, kind;
    int64_t dur_ns = 0;
  };
  struct WindowUse {
    std::string scenario, name;
    int64_t ordinal = 0, used_bytes = 0, predicted_saved_ns = 0;
  };
  std::string path{}, command{};
  int64_t ranks = 0;
  std::set<std::string> devices{};
  std::optional<StepTime> step{};
  std::vector<OperatorTime> operators{};
  std::vector<WindowUse> windows{};
  std::vector<std::pair<std::string, Interval>> speedups{};  // by scenario
};

Run run_of(const Report& report) {
  Run run{.path = clean(report.inputs.front().path.string()),
          .command = report.recording.command,
          .ranks = report.recording.ranks};
  for (const Machine& machine : report.recording.machines) run.devices.insert(machine.device);
  if (report.step) {
    run.step = {report.step->wall_ns, report.step->wall_mad_ns, report.step->steps_used};
    for (const TimelineOp& op : report.step->ops) {
      run.operators.push_back({op.name, op.kind, op.dur_ns});
    }
  }
  for (const Scenario& scenario : report.scenarios) {
    for (const Window& window : scenario.plan.windows) {
      run.windows.push_back({scenario.label, window.name, window.ordinal, window.used_bytes,
                             window.predicted_saved_ns});
    }
    if (scenario.measured && scenario.measured->speedup) {
      run.speedups.emplace_back(scenario.label, *scenario.measured->speedup);
    }
  }
  return run;
}

Run run_of(const Document& document) {
  const json& root = document.root();
  const json& recording = root.at("recording");
  Run run{.path = document.path(),
          .command = document.text(recording.at("command")),
          .ranks = document.integer(recording.at("ranks"))};
  for (const json& machine : recording.at("machines")) {
    run.devices.insert(document.text(machine.at("device")));
  }
  if (const json& step = root.at("step"); !step.is_null()) {
    run.step = {document.integer(step.at("wall_ns")), document.integer(step.at("wall_mad_ns")),
                document.integer(step.at("steps_used"))};
    for (const json& op : step.at("operators")) {
      run.operators.push_back({document.text(op.at("name")), document.text(op.at("kind")),
                               document.integer(op.at("dur_ns"))});
    }
  }
  for (const json& scenario : root.at("scenarios")) {
    const std::string label = document.text(scenario.at("label"));
    for (const json& window : scenario.at("plan").at("windows")) {
      run.windows.push_back({label, document.text(window.at("name")),
                             document.integer(window.at("ordinal")),
                             document.integer(window.at("used_bytes")),
                             document.integer(window.at("predicted_saved_ns"))});
    }
    const json& measured = scenario.at("measured");
    if (measured.is_null() || measured.at("speedup").is_null()) continue;
    const json& speedup = measured.at("speedup");
    run.speedups.emplace_back(
        label, Interval{speedup.at("low").get<double>(), speedup.at("estimate").get<double>(),
                        speedup.at("high").get<double>()});
  }
  return run;
}

void add(std::optional<int64_t>& sum, int64_t value) {
  sum = checked_add(sum.value_or(0), value, "time of an operator");
}

using OperatorKey = std::pair<std::string, std::string>;  // name without layers, kind

std::vector<OperatorChange> compare_operators(const Run& before, const Run& now) {
  std::map<OperatorKey, OperatorChange> changes;
  const auto gather = [&](const Run& run, std::optional<int64_t> Change::*side) {
    for (const Run::OperatorTime& op : run.operators) {
      OperatorChange& change = changes[{without_layer_numbers(op.name), op.kind}];
      add(change.dur_ns.*side, op.dur_ns);
      add(change.count.*side, 1);
    }
  };
  gather(before, &Change::before);
  gather(now, &Change::after);
  std::vector<OperatorChange> rows;
  for (auto& [key, change] : changes) {
    std::tie(change.name, change.kind) = key;
    rows.push_back(std::move(change));
  }
  std::ranges::stable_sort(rows, [](const auto& a, const auto& b) {
    return std::llabs(a.dur_ns.difference()) > std::llabs(b.dur_ns.difference());
  });
  return rows;
}

std::vector<WindowChange> compare_windows(const Run& before, const Run& now) {
  std::map<std::tuple<std::string, int64_t, std::string>, WindowChange> changes;
  const auto gather = [&](const Run& run, std::optional<int64_t> Change::*side) {
    for (const Run::WindowUse& window : run.windows) {
      WindowChange& change = changes[{window.scenario, window.ordinal, window.name}];
      change.used_bytes.*side = window.used_bytes;
      change.predicted_saved_ns.*side = window.predicted_saved_ns;
    }
  };
  gather(before, &Change::before);
  gather(now, &Change::after);
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

std::vector<SpeedupChange> compare_speedups(const Run& before, const Run& now) {
  std::vector<SpeedupChange> rows;
  for (const auto& after : now.speedups) {
    const auto earlier = std::ranges::find_if(
        before.speedups, [&](const auto& other) { return other.first == after.first; });
    if (earlier == before.speedups.end()) continue;
    SpeedupChange change{after.first, earlier->second, after.second, "undecided"};
    if (change.after.low > change.before.high) change.word = "higher";
    if (change.after.high < change.before.low) change.word = "lower";
    rows.push_back(std::move(change));
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

double notch_ns(const Run::StepTime& step) {
  return notch_ns(step.wall_mad_ns, step.steps_used);
}

void compare_steps(const Run& before, const Run& now, Earlier& earlier) {
  earlier.step_word = "undecided";
  if (before.step) earlier.step_ns.before = before.step->wall_ns;
  if (now.step) earlier.step_ns.after = now.step->wall_ns;
  if (!before.step || !now.step) return;
  const double reach_ns = notch_ns(*before.step) + notch_ns(*now.step);
  const auto difference_ns = static_cast<double>(earlier.step_ns.difference());
  if (difference_ns > reach_ns) earlier.step_word = "slower";
  if (difference_ns < -reach_ns) earlier.step_word = "faster";
}

std::string sentence_of(const Earlier& earlier) {
  if (!earlier.step_ns.before || !earlier.step_ns.after) {
    return fmt::format("Against {}: one of the two recordings has no step.", earlier.path);
  }
  const std::string after = format_duration(static_cast<double>(*earlier.step_ns.after));
  const std::string before = format_duration(static_cast<double>(*earlier.step_ns.before));
  if (earlier.step_word == "undecided") {
    return fmt::format(
        "Against {}: the recorded step lasts {} instead of {}, which is within what the steps "
        "differ by.",
        earlier.path, after, before);
  }
  std::string text = fmt::format("Against {}: the recorded step is {}, {} instead of {}.",
                                 earlier.path, earlier.step_word, after, before);
  if (!earlier.operators.empty() && earlier.operators[0].dur_ns.difference() != 0) {
    const OperatorChange& most = earlier.operators[0];
    text += fmt::format(" Most of all {} changed: {} instead of {} per step.", most.name,
                        format_duration(static_cast<double>(most.dur_ns.after.value_or(0))),
                        format_duration(static_cast<double>(most.dur_ns.before.value_or(0))));
  }
  return text;
}

Earlier compare(const Run& before, const Run& now) {
  Earlier earlier{.path = before.path, .command = before.command};
  if (before.ranks != now.ranks) {
    earlier.differences.push_back(fmt::format("{} instead of {}", count_of(now.ranks, "rank"),
                                              count_of(before.ranks, "rank")));
  }
  if (before.devices != now.devices) earlier.differences.emplace_back("other machines");
  compare_steps(before, now, earlier);
  earlier.speedups = compare_speedups(before, now);
  earlier.operators = compare_operators(before, now);
  earlier.windows = compare_windows(before, now);
  earlier.sentence = sentence_of(earlier);
  return earlier;
}

}  // namespace

Earlier compare_with(const std::filesystem::path& report_json, const Report& now) {
  return compare(run_of(Document(report_json)), run_of(now));
}

Earlier compare_with(const Report& before, const Report& now) {
  return compare(run_of(before), run_of(now));
}

}  // namespace preserve::report
