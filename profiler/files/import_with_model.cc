// SPDX-License-Identifier: Apache-2.0
#include "profiler/files/import_with_model.h"

#include "common/error.h"
#include "common/output_file.h"
#include "planner/schedule/device.h"
#include "planner/workload/align/recording.h"

namespace preserve {
namespace {

// Messages name the file that the user asked for, not where it is made.
std::string renamed(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

int import_with_model(import::ImportOptions options, const WorkloadOptions& model,
                      const std::filesystem::path& device, const std::filesystem::path& output,
                      bool force, Console& console) {
  if (device.empty()) {
    throw usage_error(
        "--model needs --device FILE: what the recorded GPU can do, as --device h100-sxm or a file "
        "of preserve-calibrate");
  }
  refuse_input_as_output(output, {device, model.model});
  const DeviceModel limits = load_device(device);
  options.complete = [&](const std::filesystem::path& trace) {
    try {
      const std::vector<align::AlignedStep> steps =
          align::align_trace(TraceDb::open(trace), model, limits, force);
      if (steps.empty()) {
        throw input_error("{}: has no step to align with {}: name one with --step-range",
                          trace.string(), model.model);
      }
      for (const align::AlignedStep& step : steps) {
        console.info(step.summary);
        for (const std::string& warning : step.step.warnings) {
          console.warn(renamed(warning, trace.string(), output.string()));
        }
        console.detail(step.table);
      }
      OutputFile complete(trace, true);
      align::write_aligned_trace(trace, steps, model.model, complete.temporary_path());
      complete.commit();
    } catch (const Error& error) {
      throw Error(error.kind(), renamed(error.what(), trace.string(), output.string()));
    }
  };
  return import::run_import(options, output, force, console);
}

}  // namespace preserve
