// SPDX-License-Identifier: Apache-2.0
#include "reports/grid/report.h"

#include <array>
#include <cstdlib>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "common/text.h"
#include "common/units.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

struct Published {
  const char* model;
  int64_t ranks, batch, context;
  double speedup;
};
// Eight-bit weights. The cells of the other models and of 2 and 8 devices are not known to us.
constexpr std::array kPublished{
    Published{"llama3-8b", 4, 4, 16384, 1.59}, Published{"phi-3-small", 4, 4, 16384, 1.61},
    Published{"llama3-70b", 4, 4, 16384, 1.36}, Published{"phi-3-medium", 4, 4, 16384, 1.43}};

GridCell cleaned(GridCell cell) {
  for (std::string* text : {&cell.key.model, &cell.key.dtype, &cell.reason, &cell.strategy,
                            &cell.collective, &cell.finished_at}) {
    *text = clean(*text, text == &cell.reason ? 600 : kNameLimit);
  }
  for (CellArm& arm : cell.arms) arm.name = clean(arm.name);
  return cell;
}

std::string collective_words(const std::string& collective) {
  if (collective == "mpi") return "real MPI collectives between the ranks";
  if (collective == "mpi+link") return "MPI collectives with a stand-in for a network link";
  if (collective == "nccl") return "real NCCL collectives between GPUs";
  if (collective == "stand-in+link") {
    return "stand-in collectives on one GPU with a stand-in for a network link";
  }
  if (collective == "stand-in") return "stand-in collectives on one GPU";
  return collective;
}

void add_facts(const TraceDb& db, GridReport& report) {
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) report.facts.emplace_back(name, clean(value, 600));
  };
  add("Measured on", db.meta("device_name"));
  add("Executor", db.meta("executor"));
  add("Collectives", report.collectives);
  const double link_ns = std::strtod(db.meta("grid_link_latency_ns").c_str(), nullptr);
  if (link_ns > 0) add("Stand-in link", format_duration(link_ns) + " per collective");
  add("Planned for device file", db.meta("grid_device_file"));
  add("Its rates are", db.meta("grid_device_file_source"));
  add("Its SHA-256", db.meta("grid_device_file_sha256"));
  add("Selection", db.meta("grid_selection"));
  add("Time limit per cell", db.meta("grid_time_limit"));
  add("Closed loop per cell", db.meta("grid_closed_loop"));
  add("Options of preserve-replay", db.meta("grid_replay_options"));
  add("Version of the tools", db.meta("grid_tool_version"));
}

std::string sentence_of(const GridReport& report, const GridSummary& summary) {
  const std::string where =
      report.device.empty() ? "" : fmt::format(" on {} with {}", report.device, report.collectives);
  if (summary.done == 0) return "Nothing is measured yet.";
  const Interval& mean = summary.mean_chosen ? *summary.mean_chosen : *summary.mean_chosen_all;
  const std::string over =
      summary.mean_chosen ? fmt::format("{} with batch at most 8 on 4 and 8 ranks",
                                        count_of(summary.meant_cells, "cell"))
                          : fmt::format("{} (none of them with batch at most 8 on 4 or 8 ranks)",
                                        count_of(summary.done, "cell"));
  return fmt::format("Measured{}: {} geometric mean over {}; nothing is done in {} of {}.", where,
                     interval_text(mean), over, summary.planned_nothing + summary.rejected,
                     count_of(summary.done, "measured cell"));
}

void add_warnings(const GridSummary& summary, GridReport& report) {
  const auto warn = [&](int64_t count, const char* what) {
    if (count > 0) report.warnings.push_back(fmt::format("{} {}", count_of(count, "cell"), what));
  };
  warn(summary.pending, "not measured yet: run the same preserve-replay --grid again to resume");
  warn(summary.failed, "failed: --retry-failed runs them again");
  warn(summary.unsound,
       "with too few pairs or on a busy machine: nothing is done there, and their numbers do not "
       "count");
  if (report.stand_ins) {
    report.warnings.push_back(
        fmt::format("measured with {}: what prefetching gains if collectives last that long, not "
                    "what a real network gives",
                    report.collectives));
  }
}

// All that occur, and whether some are stand-ins.
void name_collectives(GridReport& report) {
  std::set<std::string> names;
  for (const GridCell& cell : report.cells) {
    if (!cell.collective.empty()) names.insert(cell.collective);
  }
  std::vector<std::string> words;
  for (const std::string& name : names) {
    words.push_back(collective_words(name));
    report.stand_ins = report.stand_ins || (name != "mpi" && name != "nccl");
  }
  report.collectives = fmt::format("{}", fmt::join(words, " or "));
}

}  // namespace

GridReport build_grid_report(const InputFile& input) {
  const TraceDb db = TraceDb::open(input.path);
  GridReport report;
  report.input = input;
  for (GridCell& cell : read_cells(db)) report.cells.push_back(cleaned(std::move(cell)));
  if (report.cells.empty()) throw input_error("{}: holds no cell", db.file());
  report.device = clean(db.meta("device_name"));
  name_collectives(report);
  add_facts(db, report);
  const GridSummary summary = summarise(report.cells);
  report.complete = summary.pending == 0;
  report.sentence = sentence_of(report, summary);
  add_warnings(summary, report);
  return report;
}

std::optional<double> published_speedup(const CellKey& key) {
  if (key.dtype != "int8" && key.dtype != "fp8") return std::nullopt;
  for (const Published& cell : kPublished) {
    if (key.model == cell.model && key.ranks == cell.ranks && key.batch == cell.batch &&
        key.context == cell.context) {
      return cell.speedup;
    }
  }
  return std::nullopt;
}

const CellArm* arm_of(const GridCell& cell, std::string_view name) {
  for (const CellArm& arm : cell.arms) {
    if (arm.name == name) return &arm;
  }
  return nullptr;
}

std::string ratio_text(const std::optional<Estimated>& ratio) {
  if (!ratio) return "unknown";
  if (!ratio->low) return format_ratio(ratio->estimate) + " (too few pairs)";
  return interval_text({*ratio->low, ratio->estimate, *ratio->high});
}

Table finding_table(const GridSummary& summary) {
  Table table{"Over all valid cells", {wide("What"), wide("Found")}};
  const auto row = [&](const char* what, bool measured, auto found) {
    table.rows.push_back({what, measured ? Cell(found()) : unknown_cell("not measured")});
  };
  row("replayed baseline over modelled step", summary.fidelity_worst != nullptr, [&] {
    return fmt::format("median {}, farthest {} ({})", format_ratio(*summary.fidelity_median),
                       format_ratio(*summary.fidelity_worst->fidelity),
                       name_of(summary.fidelity_worst->key));
  });
  row("predicted against measured speed-up", summary.prediction_worst != nullptr, [&] {
    return fmt::format("median {:.1f} percentage points apart, most {:.1f} ({})",
                       100 * *summary.prediction_error_median,
                       100 * *summary.prediction_error_worst,
                       name_of(summary.prediction_worst->key));
  });
  row("realised share of the predicted saving", summary.realised_worst != nullptr, [&] {
    return fmt::format("{:.0f} % over all plans; median {:.0f} %, least {:.0f} % ({})",
                       100 * *summary.realised_share, 100 * *summary.realised_share_median,
                       100 * *realised_share(*summary.realised_worst),
                       name_of(summary.realised_worst->key));
  });
  row("slowest plan, before the choice", summary.worst_plan != nullptr, [&] {
    return fmt::format("{} ({}); {} below 0.995x",
                       format_ratio(summary.worst_plan->speedup->estimate),
                       name_of(summary.worst_plan->key), count_of(summary.slower_plans, "plan"));
  });
  row("geometric mean over batch <= 8 on 4 and 8 ranks", summary.mean_chosen.has_value(), [&] {
    return fmt::format("{} over {}; plans without the choice {}",
                       interval_text(*summary.mean_chosen), count_of(summary.meant_cells, "cell"),
                       interval_text(*summary.mean_plans));
  });
  return table;
}

}  // namespace preserve::report
