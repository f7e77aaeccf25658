// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/replay.h"

#include <algorithm>

#include "common/as_index.h"
#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "replay/cpu/fetch_method.h"
#include "replay/cpu/progress_engine.h"

namespace preserve {
namespace {

constexpr int64_t kDefaultChunkBytes = 4096;
constexpr int64_t kLeastHotBytes = 256 << 10;

// A block that stays cached while it is read again and again: half of what calibration found to
// survive, so that the rank's other data fit as well.
int64_t hot_block_bytes(const Schedule& schedule, const HostCores& host) {
  const int64_t cache = host.cache_bytes > 0 ? host.cache_bytes : kLeastHotBytes;
  const int64_t share = cache / (2 * std::max<int64_t>(schedule.ranks, 1));
  const int64_t half = schedule.budget_bytes / 2;
  const int64_t bytes = half > 0 ? std::min(half, cache / 2) : share;
  return std::max(bytes, kLeastHotBytes) / kPatternBytes * kPatternBytes;
}

// How each arm fetches on a CPU. An arm that fetches nothing needs no method: its plan may name
// none or another device's.
void choose_methods(const ReplayRequest& request, CpuPlan& plan) {
  for (ReplayArm& arm : plan.arms) {
    IssueMethod& method = arm.method;
    if (method.chunk_bytes == 0) method.chunk_bytes = kDefaultChunkBytes;
    if (arm.planned_bytes == 0) continue;
    find_fetch_method(method.name);  // refuses what it does not know
    if (method.eviction != "normal") {
      throw input_error(
          "{}: arm {} asks for eviction \"{}\", which no processor offers: was it made for another "
          "kind of device?",
          request.schedule, arm.name, method.eviction);
    }
    plan.needs_spare_core = plan.needs_spare_core || method.placement == "spare";
  }
}

struct Seat {
  int cpu = 0;
  std::optional<int> spare;
};

// Where the launcher has not bound its ranks, all of them may use the same cores: each takes the
// next of the list. Where it has, each rank has cores of its own: any of these will do.
Seat seat_of(const Ranks& ranks, const CpuPlan& plan, const HostCores& host) {
  const auto on_host = static_cast<size_t>(ranks.size_on_host());
  const auto mine = static_cast<size_t>(ranks.rank_on_host());
  const std::vector<int>& cores = host.cores;
  const size_t needed = on_host * (plan.needs_spare_core ? 2 : 1);
  const bool enough_for_all = ranks.min(cores.size() >= needed ? 1 : 0) == 1;
  Seat seat;
  seat.cpu = cores[mine % cores.size()];
  if (plan.needs_spare_core) {
    seat.spare = cores[enough_for_all ? on_host + mine : (mine + 1) % cores.size()];
  }
  return seat;
}

bool any_core_twice(const Ranks& ranks, const HostCores& host, int cpu) {
  std::vector<std::string> seats = ranks.all_texts(fmt::format("{}:{}", host.host, cpu));
  std::ranges::sort(seats);
  return std::ranges::adjacent_find(seats) != seats.end();
}

std::map<std::string, std::string> meta_of(const ReplayJob& job, const CpuPlan& plan,
                                           const HostCores& host) {
  return {
      {"executor", "cpu"},
      {"collective", job.schedule.link_latency_ns > 0 ? "mpi+link" : "mpi"},
      {"device_name", host.cpu_name},
      {"cores_per_rank", plan.needs_spare_core ? "2" : "1"},
      {"method", plan.arms[1].method.name},
      {"placement", plan.arms[1].method.placement},
      {"chunk_bytes", std::to_string(plan.arms[1].method.chunk_bytes)},
      {"pages", fmt::format("{} ({})", to_string(plan.options.pages), page_policy())},
      {"hot_arm",
       fmt::format("every operator reads its bytes from one block of {} that stays cached",
                   format_size(plan.options.hot_block_bytes))},
  };
}

// A core that reads for an operator fetches nothing.
void require_free_core(const StepProgram& program, const ArmWindow& window) {
  const ProgramOp& op = program.ops.at(as_index(window.ordinal));
  const bool reads = !op.weights.empty() || !op.reads.empty() || !op.writes.empty();
  if (!reads || op.kind == OpKind::collective || op.kind == OpKind::p2p) return;
  throw input_error(
      "the plan fetches beside operator {} \"{}\", which a CPU replay cannot do: plan with "
      "--windows collective",
      window.ordinal, printable(op.name));
}

}  // namespace

CpuPlan plan_for_cpu(const ReplayJob& job, const ReplayRequest& request, const HostCores& host) {
  CpuPlan plan;
  plan.arms = job.arms;
  for (const ReplayArm& arm : plan.arms) {
    for (const ArmWindow& window : arm.windows) require_free_core(job.rank_program, window);
  }
  plan.options.link_latency_ns = job.schedule.link_latency_ns;
  plan.options.hot_block_bytes = hot_block_bytes(job.schedule, host);
  plan.options.pages = pages_of(job.pages);
  choose_methods(request, plan);
  plan.memory_bytes = executor_memory_bytes(job.rank_program, plan.arms, plan.options);
  return plan;
}

void require_cores(const CpuPlan& plan, const ReplayRequest& request, const HostCores& host,
                   int64_t ranks) {
  const auto cores = static_cast<int64_t>(host.cores.size());
  const int64_t per_rank = plan.needs_spare_core ? 2 : 1;
  if (ranks * per_rank > cores && !request.oversubscribe) {
    throw input_error(
        "{}{} need {}, but {} can be used: ranks that share a core cannot be measured. "
        "--oversubscribe runs them anyway",
        count_of(ranks, "rank"), plan.needs_spare_core ? " with a spare core each" : "",
        count_of(ranks * per_rank, "core"), cores);
  }
}

void require_memory(const CpuPlan& plan, int64_t ranks_on_host) {
  const int64_t needed = checked_mul(plan.memory_bytes, ranks_on_host, "memory of all ranks");
  const int64_t available = available_memory_bytes();
  if (needed > available) {
    throw input_error("the replay needs {} of memory ({} per rank), {} are free",
                      format_size(needed), format_size(plan.memory_bytes), format_size(available));
  }
}

ReplayRecord replay_on_cpu(const Ranks& ranks, const ReplayJob& job, const CpuPlan& plan,
                           const ReplayRequest& request, const HostCores& host,
                           const MeasureOptions& options) {
  const Seat seat = seat_of(ranks, plan, host);
  const bool crowded = any_core_twice(ranks, host, seat.cpu);
  if (crowded && !request.oversubscribe) {
    throw input_error(
        "two ranks would run on one core: the launcher gave them too few; bind one core "
        "per rank, or pass --oversubscribe: then timings are meaningless");
  }
  pin_this_thread(seat.cpu);
  CpuExecutorOptions executor_options = plan.options;
  executor_options.spare_cpu = seat.spare;
  // As preserve-apply fills the windows of the program, and as calibration measured it.
  if (ranks.min(find_progress_engine().found() ? 1 : 0) == 1) {
    executor_options.via = WindowVia::progress;
  }
  CpuExecutor executor(ranks, job.rank_program, plan.arms, executor_options);
  ReplayRecord record = measure_on_ranks(ranks, executor, job, host.host, options);
  if (ranks.rank() != 0) return record;
  record.device = {.host = host.host,
                   .kind = "cpu",
                   .name = host.cpu_name,
                   .cache_bytes = host.cache_bytes,
                   .units = static_cast<int64_t>(host.cores.size())};
  record.meta.merge(meta_of(job, plan, host));
  record.meta["mpi_library"] = ranks.library();
  record.meta["via"] = to_string(executor_options.via);
  record.meta["oversubscribed"] = crowded ? "1" : "0";
  if (crowded) {
    record.result.warnings.emplace_back(
        "more ranks than cores (oversubscribed): timings are meaningless");
  }
  if (plan.options.pages == Pages::huge && !gives_huge_pages()) {
    record.result.warnings.emplace_back(
        "the program had its memory on huge pages, which this machine does not give: operators may "
        "take longer than recorded");
  }
  if (record.result.busy) {
    record.result.warnings.emplace_back(
        "the machine was busy: ranks lost their cores during most samples, so there is no verdict");
  }
  return record;
}

}  // namespace preserve
