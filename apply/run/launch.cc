// SPDX-License-Identifier: Apache-2.0
#include "apply/run/launch.h"

#include <fstream>

#include "apply/run/apply_db.h"
#include "apply/run/graph_outcomes.h"
#include "apply/run/graph_plan.h"
#include "apply/run/job_folder.h"
#include "apply/run/outcomes.h"
#include "apply/run/plan.h"
#include "apply/run/table.h"
#include "common/environment.h"
#include "common/error.h"
#include "common/foreground_child.h"
#include "common/job_launcher.h"
#include "common/number.h"
#include "common/output_file.h"
#include "common/shell_word.h"
#include "common/text.h"

namespace preserve::apply {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlanVariable = "PRESERVE_APPLY_PLAN";
constexpr const char* kGraphPlanVariable = "PRESERVE_APPLY_GRAPH_PLAN";
constexpr const char* kInjectionVariable = "CUDA_INJECTION64_PATH";
// The other ranks left MPI_Finalize at about the same time.
constexpr int64_t kWaitForOthersNs = 10'000'000'000;

void require_link(const LaunchOptions& options, const Schedule& schedule) {
  const int64_t planned_ns = schedule.link_latency_ns;
  if (options.link_latency_ns.value_or(0) == planned_ns) return;
  if (!options.link_latency_ns) {
    throw input_error(
        "{0} was planned for a stand-in network link of {1}: --link {1} adds that to every "
        "collective of the program, original steps too; or plan without --link",
        options.schedule, short_duration(planned_ns));
  }
  throw input_error(
      "--link asks for {}, but {} was planned for {}: tune again with the same --link",
      short_duration(*options.link_latency_ns), options.schedule,
      planned_ns == 0 ? "no link" : short_duration(planned_ns));
}

// A recording counts each GPU of a process as a rank, and what a plan adds to a graph follows from
// the graph alone: of a GPU's schedule there may be fewer processes, some with several GPUs. Which,
// it does not say.
void require_ranks(const LaunchOptions& options, const Schedule& schedule, Console& console) {
  const std::string started = launched_ranks();
  if (started.empty() || started == std::to_string(schedule.ranks)) return;
  const int64_t processes = number_of<int64_t>(started).value_or(0);
  const bool for_graphs = is_for_graphs(schedule);
  if (for_graphs && processes > 0 && processes < schedule.ranks) {
    console.warn(fmt::format(
        "{} {} of a schedule of {}: the plan is for as many GPUs as it has ranks", processes,
        processes == 1 ? "process" : "processes", count_of(schedule.ranks, "rank")));
    return;
  }
  throw input_error("{} was planned for {}, but {} were started: record and tune with {}{}",
                    options.schedule, count_of(schedule.ranks, "rank"), printable(started, 20),
                    printable(started, 20),
                    for_graphs ? " (each GPU of a process is a rank of the recording)" : "");
}

// A program without an interpreter loads no library of ours; a script has none, but what runs it.
void require_way(const LaunchOptions& options, bool for_graphs) {
  if (!options.via || (*options.via == Via::inject) == for_graphs) return;
  if (!for_graphs) {
    throw input_error("{} was planned for a processor: --via inject is for a schedule of a GPU",
                      options.schedule);
  }
  throw input_error(
      "{} was planned for a GPU, whose prefetches are nodes of CUDA graphs: --via {} is for MPI "
      "programs",
      options.schedule, to_string(*options.via));
}

void refuse_second() {
  if (environment_variable(kPlanVariable).empty() &&
      environment_variable(kGraphPlanVariable).empty()) {
    return;
  }
  throw usage_error("preserve-apply is running already around this command: use it only once");
}

void write_plan(const fs::path& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  out.close();
  if (!out) throw input_error("cannot write {}: is the disk full?", path.string());
}

std::vector<std::string> tensor_names(const PlanContent& content) {
  std::vector<std::string> names;
  for (const PlanTensor& tensor : content.tensors) {
    names.push_back(content.text.substr(tensor.name.offset, tensor.name.bytes));
  }
  return names;
}

class Run {
 public:
  Run(const LaunchOptions& options, const Schedule& schedule, Console& console)
      : options_(options), schedule_(schedule), console_(console) {
    PlanRequest request;
    request.schedule = options.schedule;
    request.folder = folder_.path();
    request.mode = options.mode;
    request.via = options.via;
    require_way(options, for_graphs_);
    if (for_graphs_) {
      if (const std::string set = environment_variable(kInjectionVariable); !set.empty()) {
        throw input_error(
            "{} is set to {}: libcuda loads one tool alone, and the plan comes into the program's "
            "CUDA graphs that way",
            kInjectionVariable, printable(set));
      }
      const CompiledGraphPlan compiled = compile_graph_plan(schedule, request);
      keep(compiled);
      graph_names_ = !compiled.content.tensors.empty();
    } else {
      const CompiledPlan compiled = compile_plan(schedule, request);
      keep(compiled);
      tensor_names_ = tensor_names(compiled.content);
    }
    writes_ = folder_.reports() && (launched_rank().empty() || launched_rank() == "0");
    if (writes_) output_.emplace(options.output, options.force);
  }

  ChildResult run() {
    const fs::path plan = folder_.path() / fmt::format("{}.plan", ::getpid());
    write_plan(plan, plan_);
    if (for_graphs_) {
      const fs::path library = child_library("libpreserve_apply_graphs.so");
      Variables variables{{kInjectionVariable, library.string()},
                          {kGraphPlanVariable, plan.string()}};
      if (graph_names_) name_memory(library, variables);
      return run_with(variables);
    }
    const fs::path library = child_library("libpreserve_apply.so");
    auto variables = preloading(library);
    variables.emplace_back(kPlanVariable, plan.string());
    name_memory(library, variables);
    return run_with(variables);
  }

  void report() {
    if (!folder_.reports()) return;
    folder_.wait_for_others(kWaitForOthersNs);
    const Outcomes outcomes = read_outcomes(folder_.path());
    std::vector<std::string> remarks =
        for_graphs_ ? graph_remarks_on(outcomes) : remarks_on(outcomes, schedule_, tensor_names_);
    remarks.insert(remarks.begin(), warnings_.begin(), warnings_.end());
    for (const std::string& remark : remarks) console_.warn(remark);
    if (outcomes.deciding() == nullptr) return;
    const std::vector<Block> blocks = blocks_of(outcomes);
    ReplayResult result = result_of(outcomes, blocks, schedule_, planned_bytes_, options_.mode);
    result.warnings = remarks;
    result.collective = collective();
    console_.info(table_of(outcomes, result, options_.mode));
    if (!writes_) return;
    write_apply_db(output_->temporary_path(), outcomes, blocks, result, meta(outcomes));
    output_->commit();
    console_.next(
        fmt::format("preserve-report {} {} {} -o report.html",
                    schedule_.trace_path.empty() ? "trace.db" : shell_word(schedule_.trace_path),
                    shell_word(options_.schedule), shell_word(options_.output)));
  }

 private:
  template <typename Content>
  void keep(const Compiled<Content>& compiled) {
    plan_ = compiled.content.encoded();
    planned_bytes_ = compiled.planned_bytes;
    warnings_ = compiled.warnings;
  }

  // NVTX of the program names its tensors. Another tool that records them keeps its place.
  void name_memory(const fs::path& library, Variables& variables) const {
    const std::string injection = environment_variable("NVTX_INJECTION64_PATH");
    if (injection.empty()) {
      variables.emplace_back("NVTX_INJECTION64_PATH", library.string());
      return;
    }
    console_.warn(fmt::format(
        "NVTX_INJECTION64_PATH is set to {}: that tool gets the names of the program's memory, "
        "and the plan cannot find its tensors by them",
        printable(injection)));
  }

  std::string collective() const {
    if (for_graphs_) return "graph";
    return schedule_.link_latency_ns > 0 ? "mpi+link" : "mpi";
  }

  std::map<std::string, std::string> meta(const Outcomes& outcomes) const {
    const IssueMethod& method = method_of(schedule_, schedule_.plan);
    const OutcomeHeader& deciding = outcomes.deciding()->view.header();
    return {{"trace_path", schedule_.trace_path},
            {"trace_sha256", schedule_.trace_sha256},
            {"schedule_path", options_.schedule},
            {"schedule_sha256", schedule_sha256_},
            {"strategy", to_string(schedule_.plan.strategy)},
            {"plan_verdict", to_string(schedule_.plan.verdict)},
            {"schedule_device_name", schedule_.device_name},
            {"executor", "program"},
            {"collective", collective()},
            {"mpi_library", std::string(outcomes.deciding()->view.library())},
            {"method", method.name},
            {"placement", method.placement},
            {"chunk_bytes", std::to_string(method.chunk_bytes)},
            {"mode", std::string(kModeNames[static_cast<size_t>(options_.mode)])},
            {"via", for_graphs_ ? "inject" : std::string(kViaNames[deciding.via])},
            {"via_blocking_ns", fmt::format("{:.0f}", deciding.blocking_ns)},
            {"via_converted_ns", fmt::format("{:.0f}", deciding.converted_ns)},
            {"off_reason", std::string(kOffNames[static_cast<size_t>(deciding.off)])},
            {"decided_step", std::to_string(deciding.off_step)}};
  }

  // Beside the output, when the command starts ranks on several hosts.
  std::optional<fs::path> shared_folder() const {
    if (!on_several_hosts(launcher_, options_.command)) return std::nullopt;
    return fs::absolute(options_.output).parent_path();
  }

  ChildResult run_with(const Variables& variables) const {
    return run_child(passing_on(options_.command, launcher_, variables), variables);
  }

  const LaunchOptions& options_;
  const Schedule& schedule_;
  Console& console_;
  const JobLauncher launcher_ = job_launcher(options_.command.front());
  JobFolder folder_{shared_folder()};
  const std::string schedule_sha256_ = sha256_of_file(options_.schedule);
  const bool for_graphs_ = is_for_graphs(schedule_);
  std::string plan_;  // the file
  int64_t planned_bytes_ = 0;
  std::vector<std::string> warnings_, tensor_names_;
  bool writes_ = false;
  bool graph_names_ = false;  // the plan for graphs knows some of its tensors by name
  std::optional<OutputFile> output_;
};

// Nothing of ours in it.
int run_untouched(const LaunchOptions& options, Console& console) {
  const ChildResult child = run_child(options.command, {});
  if (!child.started) {
    return cannot_run(options.command.front(), child.error, child.exit_code, console);
  }
  return child.result();
}

}  // namespace

int apply_command(const LaunchOptions& options, Console& console) {
  const Program program = find_program(options.command.front());
  if (program.code != 0) {
    return cannot_run(options.command.front(), program.error, program.code, console);
  }
  const Schedule schedule = load_schedule(options.schedule);
  refuse_second();
  require_link(options, schedule);
  require_ranks(options, schedule, console);
  require_file(options.output, "apply.db");
  refuse_input_as_output(options.output, {options.schedule});
  if (schedule.plan.verdict == PlanVerdict::do_nothing) {
    console.info(fmt::format(
        "{}: its verdict is do-nothing ({}), so the program runs untouched", options.schedule,
        schedule.plan.reasons.empty() ? "no reason given"
                                      : printable(schedule.plan.reasons.back())));
    return run_untouched(options, console);
  }
  if (const Loading loading = loading_of(program.path); loading != Loading::ours) {
    throw input_error(
        "{} is linked {}: no library can be loaded into it; link it dynamically to glibc, or run "
        "it "
        "as it is",
        printable(program.path),
        loading == Loading::none ? "statically" : "to another C library than this tool");
  }
  Run run(options, schedule, console);
  const ChildResult child = run.run();
  if (!child.started) {
    return cannot_run(program.path, child.error, child.exit_code, console);
  }
  const int code = child.result();
  try {
    run.report();
  } catch (const std::exception& failure) {
    console.error(failure.what());  // it must not hide the command's own result
    return code != 0 ? code : kLauncherFailed;
  }
  return code;
}

}  // namespace preserve::apply
