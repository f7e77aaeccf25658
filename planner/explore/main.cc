// SPDX-License-Identifier: Apache-2.0
// preserve-explore: from the command line to the cells and their outputs.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/child_process.h"
#include "common/cli.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/explore/options.h"
#include "planner/explore/output.h"
#include "planner/explore/results.h"
#include "planner/schedule/schedule.h"
#include "replay/ranks/cells.h"
#include "replay/ranks/entry.h"

namespace preserve {
namespace {

constexpr int64_t kRoundNs = 500'000'000;

int cores_here() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// Files by content, so that a changed one does not resume.
std::string digests(const std::vector<SweepSheet>& sheets, SweepKey key, const char* folder) {
  std::vector<std::string> words;
  for (const SweepSheet& sheet : sheets) {
    const SweepAxis* axis = sheet.find(key);
    if (axis == nullptr) continue;
    for (const std::string& word : axis->words) {
      if (std::ranges::find(words, word) == words.end()) words.push_back(word);
    }
  }
  std::string text;
  for (const std::string& word : words) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", sha256_of_file(input_file(word, folder)));
  }
  return text;
}

// Cells of each sheet, for the text of a figure.
SheetCells cells_by_sheet(const Sweep& sweep, const TraceDb& db) {
  SheetCells sheets(sweep.sheets().size());
  size_t sheet = 0;
  read_explore_cells(db, [&](const ExploreCell& cell) {
    while (sheet + 1 < sheets.size() && cell.id >= sweep.first_cell(sheet + 1)) ++sheet;
    sheets[sheet].push_back(cell);
  });
  return sheets;
}

struct Counts {
  int64_t done = 0, not_available = 0, failed = 0;
  std::string first_failure, first_reason;  // of what failed, of what is not available
};

Counts count_cells(const TraceDb& db) {
  Counts counts;
  read_explore_cells(db, [&](const ExploreCell& cell) {
    if (cell.done()) {
      ++counts.done;
    } else if (cell.status == kExploreNotAvailable) {
      if (counts.not_available++ == 0) counts.first_reason = cell.reason;
    } else if (counts.failed++ == 0) {
      counts.first_failure = cell.reason;
    }
  });
  return counts;
}

class Exploration {
 public:
  Exploration(const ExploreOptions& options, Console& console, Ranks& ranks)
      : options_(options),
        console_(console),
        ranks_(ranks),
        first_(ranks.rank() == 0),
        outputs_(outputs_of(options)),
        figure_(find_figure(options.figure)) {}

  int run() {
    std::vector<SweepSheet> sheets = sheets_of(stated_axes(options_), figure_);
    std::string area = options_.area;
    if (area.empty() && figure_ != nullptr) area = figure_->area;
    SweepIdentity identity{
        {"tool_version", PRESERVE_VERSION},
        {"figure", options_.figure},
        {"models", digests(sheets, SweepKey::model, "models")},
        {"devices", digests(sheets, SweepKey::device, "devices")},
        {"area", area.empty() ? "" : sha256_of_file(input_file(area, "area"))},
        {"collectives", options_.collectives},
        {"whole_context", options_.whole_context ? "1" : "0"},
        {"search", options_.search ? "1" : "0"},
    };
    std::vector<std::string> warnings;
    SweepInputs inputs = load_inputs(sheets, area, warnings, options_.collectives);
    const bool whole_context =
        options_.whole_context || (figure_ != nullptr && figure_->whole_context);
    const Sweep sweep(std::move(sheets), std::move(inputs), {whole_context, options_.search});
    sweep.check(figure_ != nullptr);
    identity.emplace_back("sheets", to_text(sheets_of(sweep)));
    identity.emplace_back("cells", std::to_string(sweep.cells()));
    std::optional<OutputFile> csv, json;
    std::optional<ExploreResults> results;
    if (first_) {
      for (const std::string& warning : warnings) console_.warn(warning);
      if (!outputs_.csv.empty()) csv.emplace(outputs_.csv, options_.force);
      if (!outputs_.json.empty()) json.emplace(outputs_.json, options_.force);
      results.emplace(outputs_.db, identity, sweep.cells(), options_.force);
      if (results->finished() > 0) {
        console_.info(fmt::format("resuming {}: {} of {} cells are there", outputs_.db,
                                  results->finished(), sweep.cells()));
      }
    }
    if (!evaluate(sweep, results ? &*results : nullptr)) {
      if (first_ && !outputs_.db.empty()) {
        console_.info(fmt::format("stopped; the same command resumes {}", outputs_.db));
      }
      return 128 + std::max<int>(1, StopSignals::received());
    }
    if (!first_) return kExitDone;
    if (csv)
      write_output(*csv, [&](const TextSink& sink) { write_explore_csv(results->db(), sink); });
    if (json) {
      write_output(*json, [&](const TextSink& sink) { write_explore_json(results->db(), sink); });
    }
    if (figure_ != nullptr && outputs_.csv != "-") {
      fmt::print("{}", figure_->text(sweep, cells_by_sheet(sweep, results->db())));
    }
    return finish(sweep, results->db());
  }

 private:
  bool evaluate(const Sweep& sweep, ExploreResults* results) {
    const int64_t start_ns = monotonic_ns();
    const int64_t before = first_ ? results->finished() : 0;
    CellWork<ExploreRow> work;
    work.threads =
        options_.threads > 0 ? options_.threads : std::max(1, cores_here() / ranks_.size_on_host());
    work.round_ns = kRoundNs;
    work.evaluate = [&](int64_t id) { return explore_values(sweep.cell(id)); };
    work.record = [&](const ExploreRow& row) { results->record(row); };
    work.to_text = rows_to_text;
    work.from_text = rows_from_text;
    work.stop = [] { return StopSignals::received() != 0; };
    work.after_round = [&] {
      const int64_t finished = results->finished(), made = finished - before;
      if (made == 0) return;
      const double spent_ns = static_cast<double>(monotonic_ns() - start_ns);
      const double left = static_cast<double>(sweep.cells() - finished);
      console_.progress(fmt::format("{} of {}, {:.0f} per s, about {:.0f} s left", finished,
                                    count_of(sweep.cells(), "cell"),
                                    static_cast<double>(made) / spent_ns * kNsPerS,
                                    left * spent_ns / static_cast<double>(made) / kNsPerS),
                        static_cast<double>(finished), static_cast<double>(sweep.cells()));
    };
    const StopSignals stop;
    const bool whole =
        run_cells(ranks_, first_ ? results->missing() : std::vector<CellRange>(), work);
    console_.clear_progress();
    if (first_) {
      console_.detail(fmt::format("{} on {} of {} in {}", count_of(sweep.cells(), "cell"),
                                  count_of(work.threads, "thread"), count_of(ranks_.size(), "rank"),
                                  format_duration(monotonic_ns() - start_ns)));
    }
    return whole;
  }

  int finish(const Sweep& sweep, const TraceDb& db) {
    const Counts counts = count_cells(db);
    if (counts.failed == sweep.cells()) {
      throw input_error("no cell could be evaluated: {}", counts.first_failure);
    }
    if (counts.failed > 0) {
      console_.warn(fmt::format("{} failed; the first one: {}", count_of(counts.failed, "cell"),
                                counts.first_failure));
    }
    console_.info(fmt::format("{}: {} done, {} not available{}", count_of(sweep.cells(), "cell"),
                              counts.done, counts.not_available,
                              counts.done == 0 ? "; the first one: " + counts.first_reason : ""));
    if (!outputs_.db.empty()) {
      console_.next(fmt::format("preserve-report {} -o explore.html", shell_word(outputs_.db)));
    }
    return kExitDone;
  }

  const ExploreOptions& options_;
  Console& console_;
  Ranks& ranks_;
  bool first_;
  ExploreOutputs outputs_;
  const Figure* figure_;
};

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  preserve::ExploreOptions options;
  const preserve::ToolInfo info{
      "preserve-explore",
      "Plans decode steps of many models and devices, as they are or changed, without running any.",
      preserve::keys_and_figures() +
          "\nExamples:\n"
          "  preserve-explore --figure footprint\n"
          "  preserve-explore --figure design --model llama3-70b -o design.db -o design.csv\n"
          "  preserve-explore --model llama3-8b --device h100-sxm --dtype fp8 --tp 4 \\\n"
          "      --sweep l2=8MiB:256MiB:log2 --sweep batch=1,2,4,8 -o explore.db\n"
          "  mpirun -n 4 preserve-explore --model llama3-70b --device b200 --dtype fp8 \\\n"
          "      --sweep context=1K:128K:log2 --sweep batch=1:64:log2 -o explore.db\n"
          "  preserve-report explore.db -o explore.html\n"
          "\nExit codes: 0 done, 2 usage or bad input, 3 internal, 130 stopped by Ctrl-C.",
      fmt::format("trace schema {}, schedule {}, device {}", preserve::kTraceSchemaVersion,
                  preserve::kScheduleVersion, preserve::kDeviceVersion)};
  return preserve::run_tool(
      argc, argv, info, [&](CLI::App& app) { preserve::define_options(app, options); },
      [&](preserve::Console& console) {
        return preserve::run_as_rank(console, [&](preserve::Ranks& ranks) {
          return preserve::Exploration(options, console, ranks).run();
        });
      });
}
