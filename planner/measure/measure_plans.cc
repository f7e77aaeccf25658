// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/measure_plans.h"

#include <algorithm>
#include <chrono>

#include "common/child_process.h"
#include "common/error.h"
#include "common/output_file.h"
#include "common/private_folder.h"
#include "common/units.h"
#include "planner/measure/replay_findings.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

class ReplayRunner {
 public:
  ReplayRunner(const MeasureRequest& request, Console& console)
      : request_(request),
        console_(console),
        tool_(sibling_tool("preserve-replay")),
        folder_("preserve-tune"),
        // The winner of the last round is measured once more.
        limit_ns_(std::max<int64_t>(1, request.time_ns / (request.rounds + 1))) {
    if (request_.keep.empty()) return;
    std::error_code error;
    fs::create_directories(request_.keep, error);
    if (error) {
      throw usage_error("cannot create {}: {}", request_.keep.string(), error.message());
    }
  }

  // Nothing: a signal ended it.
  std::optional<ReplayFindings> run(Schedule schedule, int number, const std::string& purpose) {
    schedule.trace_path = request_.trace.string();
    schedule.trace_sha256 = request_.trace_sha256;
    const fs::path schedule_path = file("schedule", number, "json");
    const fs::path replay_path = file("replay", number, "db");
    OutputFile(schedule_path, request_.force).write(to_json(schedule));
    console_.info(fmt::format("replay {}: measuring {} for up to {}", number, purpose,
                              format_duration(limit_ns_)));
    const ChildRun run = replay(schedule_path, replay_path, number);
    if (StopSignals::received() != 0) return std::nullopt;
    if (run.exit_code == kExitBadInput) {
      throw input_error("preserve-replay cannot measure this: {}", last_error(run));
    }
    if (run.exit_code > 128) {
      throw input_error("preserve-replay was ended by signal {}", run.exit_code - 128);
    }
    if (run.exit_code != kExitDone) {
      throw internal_error("preserve-replay failed with code {}: {}", run.exit_code,
                           last_error(run));
    }
    return read_findings(TraceDb::open(replay_path), schedule);
  }

 private:
  fs::path file(const char* what, int number, const char* suffix) const {
    const fs::path& folder = request_.keep.empty() ? folder_.path() : request_.keep;
    return folder / fmt::format("{}-{}.{}", what, number, suffix);
  }

  ChildRun replay(const fs::path& schedule, const fs::path& output, int number) {
    std::vector<std::string> words{tool_.string(),    request_.trace.string(),
                                   schedule.string(), "-o",
                                   output.string(),   "--candidates",
                                   "--time-limit",    fmt::format("{}ns", limit_ns_),
                                   "--color",         "never"};
    if (request_.force) words.emplace_back("--force");
    words.insert(words.end(), request_.replay_words.begin(), request_.replay_words.end());
    const auto start = std::chrono::steady_clock::now();
    const auto waiting = [&] {
      const std::chrono::duration<double, std::nano> spent =
          std::chrono::steady_clock::now() - start;
      console_.progress(fmt::format("replay {}", number), spent.count(),
                        static_cast<double>(limit_ns_));
    };
    ChildRun run = console_.verbosity() > 0 ? run_child_quietly(words, {}, write_through)
                                            : run_child_quietly(words, waiting);
    console_.clear_progress();
    return run;
  }

  const MeasureRequest& request_;
  Console& console_;
  fs::path tool_;
  PrivateFolder folder_;
  int64_t limit_ns_;  // of one replay
};

}  // namespace

std::optional<Schedule> measure_plans(const FoldedStep& step, const DeviceModel& device,
                                      const PlanOptions& options, const MeasureRequest& request,
                                      Console& console) {
  ClosedLoop loop(step, device, options, request.rounds);
  ReplayRunner runner(request, console);
  while (loop.next()) {
    const auto findings = runner.run(*loop.next(), loop.replays_taken() + 1, loop.purpose());
    if (!findings) return std::nullopt;
    if (findings->busy) {
      console.warn(
          fmt::format("ranks lost their cores during most samples of replay {}: this machine is "
                      "too busy for it",
                      loop.replays_taken() + 1));
    }
    loop.take(*findings);
  }
  return loop.result();
}

}  // namespace preserve
