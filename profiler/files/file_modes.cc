// SPDX-License-Identifier: Apache-2.0
#include "profiler/files/file_modes.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>

#include "common/error.h"
#include "profiler/export/chrome.h"
#include "profiler/import/import.h"
#include "profiler/summary/summary.h"

namespace preserve {

void FileModes::define(CLI::App& app) {
  app.add_option(
         "--import", import_files,
         "No run: make the trace from PyTorch profiler JSON (.json, .gz, .zst), Nsight Systems "
         "SQLite exports and NCCL inspector logs; several files are the ranks of one run")
      ->type_name("FILE...");
  app.add_flag("--partial", partial,
               "With --import: take what is readable of damaged files and count the losses");
  app.add_option("--kernel-rules", kernel_rules,
                 "Lines 'PATTERN CLASS [FUNCTION]' that say what a GPU kernel is (repeatable)")
      ->type_name("FILE")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  app.add_option("--summary", summary, "No run: print what is in a trace")->type_name("TRACE");
  app.add_option(
         "--export", export_what,
         "No run: write a trace for another viewer; FORMAT is chrome (ui.perfetto.dev, .json or "
         ".json.gz)")
      ->type_name("FORMAT TRACE")
      ->expected(2);
  app.add_option("--schedule", schedule, "With --export: draw the prefetches of this schedule")
      ->type_name("FILE");
}

int FileModes::run(const std::string& output, bool force,
                   const std::vector<std::string>& step_globs, Console& console) const {
  const int modes =
      (import_files.empty() ? 0 : 1) + (export_what.empty() ? 0 : 1) + (summary.empty() ? 0 : 1);
  if (modes != 1)
    throw usage_error("--import, --summary and --export are different things: give one");
  if (partial && import_files.empty()) throw usage_error("--partial belongs to --import");
  if (!schedule.empty() && export_what.empty()) throw usage_error("--schedule belongs to --export");
  if (!summary.empty() && !output.empty()) throw usage_error("--summary prints, -o has no file");
  if (import_files.empty() && !step_globs.empty()) {
    throw usage_error("--step-range finds steps while a trace is made: record or import again");
  }
  if (!summary.empty()) return summary::run_summary(summary, console);
  if (!export_what.empty()) {
    std::optional<std::filesystem::path> plan;
    if (!schedule.empty()) plan = schedule;
    const std::filesystem::path trace = export_what[1];
    const auto beside = std::filesystem::path(trace).replace_extension(".json");
    return exporter::run_export(trace, export_what[0], plan,
                                output.empty() ? beside : std::filesystem::path(output), force,
                                console);
  }
  import::ImportOptions options{.partial = partial};
  options.files.assign(import_files.begin(), import_files.end());
  options.kernel_rules.assign(kernel_rules.begin(), kernel_rules.end());
  options.steps.decode_globs = step_globs;
  return import::run_import(options, output.empty() ? "trace.db" : output, force, console);
}

}  // namespace preserve
