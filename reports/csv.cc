// SPDX-License-Identifier: Apache-2.0
#include "reports/csv.h"

#include <cmath>
#include <iterator>
#include <optional>
#include <variant>

#include "common/error.h"
#include "reports/model/gains.h"
#include "reports/render.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

using Cell = std::variant<std::monostate, int64_t, double, std::string>;

template <typename T>
Cell cell(const std::optional<T>& value) {
  return value ? Cell(*value) : Cell();
}

class Csv {
 public:
  explicit Csv(std::string_view header) : out_(header) { out_ += "\r\n"; }

  void row(std::initializer_list<Cell> cells) {
    std::string_view comma;
    for (const Cell& value : cells) {
      out_ += comma;
      comma = ",";
      if (const auto* number = std::get_if<int64_t>(&value)) out_ += fmt::format("{}", *number);
      // As many digits as the JSON report has.
      if (const auto* real = std::get_if<double>(&value)) {
        out_ += fmt::format("{}", std::round(*real * 1e6) / 1e6);
      }
      if (const auto* text = std::get_if<std::string>(&value)) out_ += csv_text(*text);
    }
    out_ += "\r\n";
  }
  std::string finish() { return std::move(out_); }

 private:
  std::string out_;
};

// One row per operator of the step and scenario; without a schedule one scenario called "recorded".
void operators(const Report& report, Csv& csv) {
  const auto row = [&](const std::string& scenario, const OperatorTimes& op) {
    csv.row({scenario, int64_t{op.ordinal}, op.name, op.kind, cell(op.recorded_ns),
             cell(op.predicted_ns), cell(op.baseline_ns), cell(op.prefetch_ns), cell(op.hot_ns)});
  };
  for (const Scenario& scenario : report.scenarios) {
    for (const OperatorTimes& op : scenario.operators) row(scenario.label, op);
  }
  if (report.scenarios.empty() && report.step) {
    for (const TimelineOp& op : report.step->ops) {
      row("recorded", {op.ordinal, op.name, op.kind, op.dur_ns, {}, {}, {}});
    }
  }
}

void gains(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    for (const OperatorGain& gain : operator_gains(scenario)) {
      csv.row({scenario.label, gain.name, gain.kind, gain.operators, gain.recorded_ns,
               gain.baseline_ns, gain.prefetch_ns, gain.saved_ns(), gain.predicted_saved_ns});
    }
  }
}

void verdicts(const Report& report, Csv& csv) {
  for (const Headline& headline : report.headlines) {
    for (const Headline::Mark& mark : headline.marks) {
      csv.row({headline.label, headline.verdict, headline.basis, mark.name, cell(mark.low),
               mark.estimate, cell(mark.high)});
    }
  }
}

void arms(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    if (!scenario.measured) continue;
    for (const Arm& arm : scenario.measured->arms) {
      int64_t discarded = 0;
      for (const auto& [reason, count] : arm.discarded) discarded += count;
      const auto step = [&](double Interval::*end) {
        return arm.step_ns ? Cell(int64_t{std::llround((*arm.step_ns).*end)}) : Cell();
      };
      const auto speedup = [&](double Interval::*end) {
        return arm.speedup ? Cell((*arm.speedup).*end) : Cell();
      };
      csv.row({scenario.label, arm.name, arm.samples, arm.pairs, step(&Interval::low),
               step(&Interval::estimate), step(&Interval::high), speedup(&Interval::low),
               speedup(&Interval::estimate), speedup(&Interval::high), discarded});
    }
  }
}

void samples(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    if (!scenario.measured) continue;
    for (const Arm& arm : scenario.measured->arms) {
      for (const Sample& sample : arm.taken) {
        csv.row({scenario.label, arm.name, sample.pair, sample.step_ns,
                 sample.discarded.empty() ? Cell() : Cell(sample.discarded)});
      }
    }
  }
}

void why(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    for (const WhyBar& bar : scenario.why) {
      csv.row({scenario.label, bar.part, bar.name, int64_t{bar.total}, bar.dur_ns});
    }
  }
}

void windows(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    for (const Window& window : scenario.plan.windows) {
      csv.row({scenario.label, int64_t{window.ordinal}, window.name, window.usable_ns,
               window.capacity_bytes, window.used_bytes, window.predicted_saved_ns, window.binds,
               window.shadow_price_ns_per_mib});
    }
  }
}

void prefetches(const Report& report, Csv& csv) {
  for (const Scenario& scenario : report.scenarios) {
    for (const Window& window : scenario.plan.windows) {
      for (const Prefetch& p : window.prefetches) {
        csv.row({scenario.label, int64_t{window.ordinal}, p.tensor, p.offset_bytes, p.length_bytes,
                 int64_t{p.consumer_ordinal}, p.consumer, int64_t{p.next_step},
                 p.predicted_saved_ns});
      }
    }
  }
}

void ranks(const Report& report, Csv& csv) {
  for (const RankTime& rank : report.time_use.ranks) {
    for (size_t c = 0; c < kTimeClasses.size(); ++c) {
      const ClassTime& time = rank.classes[c];
      csv.row({cell(rank.rank), rank.process, rank.steps, rank.wall_ns,
               std::string(kTimeClasses[c]), time.exclusive_ns, time.busy_ns, time.operators});
    }
  }
}

void collectives(const Report& report, Csv& csv) {
  for (const CollectiveGroup& group : report.time_use.collectives) {
    csv.row({group.function, cell(group.bytes), group.dtype, cell(group.ranks), group.count,
             group.min_ns, group.p10_ns, group.median_ns, group.p90_ns, group.max_ns,
             group.total_ns});
  }
}

// A row per quantity that has an interval or a judgement; operators and windows have tables of
// their own.
void changes(const Report& report, Csv& csv) {
  for (const Earlier& run : report.earlier) {
    csv.row({run.path, "step_ns", Cell(), Cell(), cell(run.step_ns.before), Cell(), Cell(),
             cell(run.step_ns.after), Cell(), run.step_word});
    for (const SpeedupChange& change : run.speedups) {
      csv.row({run.path, "speedup", change.scenario, change.before.low, change.before.estimate,
               change.before.high, change.after.low, change.after.estimate, change.after.high,
               change.word});
    }
  }
}

void operator_changes(const Report& report, Csv& csv) {
  for (const Earlier& run : report.earlier) {
    for (const OperatorChange& op : run.operators) {
      csv.row({run.path, op.name, op.kind, cell(op.count.before), cell(op.count.after),
               cell(op.dur_ns.before), cell(op.dur_ns.after)});
    }
  }
}

void window_changes(const Report& report, Csv& csv) {
  for (const Earlier& run : report.earlier) {
    for (const WindowChange& window : run.windows) {
      csv.row({run.path, window.scenario, int64_t{window.ordinal}, window.name,
               cell(window.used_bytes.before), cell(window.used_bytes.after),
               cell(window.predicted_saved_ns.before), cell(window.predicted_saved_ns.after)});
    }
  }
}

struct NamedTable {
  std::string_view name, header;
  void (*write)(const Report&, Csv&);
};
constexpr NamedTable kTables[] = {
    {kOperatorsCsv,
     "scenario,ordinal,operator,kind,recorded_ns,predicted_ns,baseline_ns,prefetch_ns,hot_ns",
     operators},
    {"gains",
     "scenario,operator,kind,operators,recorded_ns,baseline_ns,prefetch_ns,saved_ns,"
     "predicted_saved_ns",
     gains},
    {"verdicts", "scenario,verdict,basis,mark,low,estimate,high", verdicts},
    {"arms",
     "scenario,arm,samples,pairs,step_low_ns,step_ns,step_high_ns,speedup_low,speedup,"
     "speedup_high,discarded",
     arms},
    {"samples", "scenario,arm,pair,step_ns,discarded", samples},
    {"why", "scenario,part,bar,total,dur_ns", why},
    {"windows",
     "scenario,ordinal,window,usable_ns,capacity_bytes,used_bytes,predicted_saved_ns,binds,"
     "shadow_price_ns_per_mib",
     windows},
    {"prefetches",
     "scenario,window_ordinal,tensor,offset_bytes,length_bytes,consumer_ordinal,consumer,"
     "next_step,predicted_saved_ns",
     prefetches},
    {"ranks", "rank,process,steps,wall_ns,class,exclusive_ns,busy_ns,operators", ranks},
    {"collectives",
     "function,bytes,dtype,ranks,count,min_ns,p10_ns,median_ns,p90_ns,max_ns,total_ns",
     collectives},
    {kChangesCsv,
     "earlier,quantity,scenario,before_low,before,before_high,after_low,after,after_high,change",
     changes},
    {"operator_changes",
     "earlier,operator,kind,before_operators,after_operators,before_ns,after_ns", operator_changes},
    {"window_changes",
     "earlier,scenario,ordinal,window,before_used_bytes,after_used_bytes,"
     "before_predicted_saved_ns,after_predicted_saved_ns",
     window_changes},
};

}  // namespace

std::vector<std::string_view> csv_tables() {
  std::vector<std::string_view> names;
  names.reserve(std::size(kTables));
  for (const NamedTable& table : kTables) names.push_back(table.name);
  return names;
}

std::string to_csv(const Report& report, std::string_view name) {
  for (const NamedTable& table : kTables) {
    if (table.name != name) continue;
    Csv csv(table.header);
    table.write(report, csv);
    return csv.finish();
  }
  throw internal_error("a report has no table {}", name);
}

std::string to_csv(const Report& report) {
  return to_csv(report, kOperatorsCsv);
}

}  // namespace preserve::report
