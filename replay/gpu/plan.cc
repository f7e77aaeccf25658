// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/plan.h"

#include <algorithm>

#include "common/error.h"
#include "common/rounded_up.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/schedule/device_name.h"

namespace preserve {
namespace {

constexpr int64_t kBulkChunkBytes = 4096;
constexpr int64_t kLineBytes = 128;
constexpr int64_t kLargestChunkBytes = int64_t{1} << 20;
constexpr int64_t kLeastHotBytes = int64_t{64} << 10;
// Of the nominal L2, so that the rest of the step fits next to the hot block.
constexpr int64_t kHotShare = 8;
// Memory that is never read comes round again after this many times the L2.
constexpr int64_t kUselessCaches = 4;
constexpr int64_t kProductBytes = int64_t{64} << 20;  // workspace of matrix products
constexpr int64_t kNcclBytes = int64_t{512} << 20;    // buffers of NCCL's channels
constexpr int64_t kGraphBytes = int64_t{64} << 20;    // nodes, tables, time stamps
constexpr int kLeastComputeMajor = 8;                 // prefetch.global.L2 with a size
constexpr int kBulkComputeMajor = 9;                  // cp.async.bulk.prefetch.L2

// What the driver takes for an allocation: whole pages of 2 MiB, which small ones share.
int64_t allocated_bytes(int64_t bytes) {
  constexpr int64_t kPageBytes = int64_t{2} << 20;
  if (bytes == 0) return 0;
  const int64_t own = rounded_up(bytes, kGpuPatternBytes) + kGpuPatternBytes;
  return own < kPageBytes / 2 ? own : rounded_up(own, kPageBytes);
}

// How an arm fetches on this GPU. An arm that fetches nothing needs no method: its plan may name
// none, or another device's.
void settle_method(const ReplayRequest& request, const GpuFacts& facts, bool fetches,
                   ReplayArm& arm) {
  IssueMethod& method = arm.method;
  const auto refuse = [&](const std::string& what) {
    return input_error("{}: arm {} {}: was it made for another kind of device?", request.schedule,
                       arm.name, what);
  };
  if (!fetches) {
    method.name = facts.compute_major >= kBulkComputeMajor ? "bulk_l2" : "prefetch_l2";
    method.eviction = "normal";
    method.chunk_bytes = 0;
  }
  const std::optional<GpuFetch> fetch = gpu_fetch(method.name);
  if (!fetch) throw refuse(fmt::format("fetches by \"{}\", which no GPU knows", method.name));
  if (!gpu_eviction(method.eviction)) {
    throw refuse(fmt::format("asks for eviction \"{}\", which is unknown", method.eviction));
  }
  if (*fetch == GpuFetch::bulk_l2 && facts.compute_major < kBulkComputeMajor) {
    throw input_error(
        "{}: arm {} fetches by bulk_l2, which needs compute capability 9.0; {} has {}.{}: tune "
        "with a device file whose method is prefetch_l2",
        request.schedule, arm.name, facts.name, facts.compute_major, facts.compute_minor);
  }
  if (method.chunk_bytes == 0) {
    method.chunk_bytes = *fetch == GpuFetch::prefetch_l2 ? kLineBytes : kBulkChunkBytes;
  }
  if (method.chunk_bytes % 16 != 0 || method.chunk_bytes > kLargestChunkBytes) {
    throw refuse(
        fmt::format("fetches in requests of {} bytes; a GPU needs a multiple of 16 up to {}",
                    method.chunk_bytes, format_size(kLargestChunkBytes)));
  }
  if (method.ctas > facts.sms) {
    throw refuse(fmt::format("fetches with {} CTAs, and there are {} SMs", method.ctas, facts.sms));
  }
}

int64_t useless_bytes(const std::vector<ReplayArm>& arms, const GpuFacts& facts) {
  int64_t bytes = 0;
  for (const ReplayArm& arm : arms) {
    if (arm.kind == ArmKind::useless) bytes = std::max(bytes, arm.planned_bytes);
  }
  if (bytes == 0) return 0;
  const int64_t most = kUselessCaches * std::max(facts.l2_bytes, kLeastHotBytes);
  return rounded_up(std::min(bytes + kGpuPatternBytes, most), kGpuPatternBytes);
}

int64_t memory_of(const StepProgram& program, const GpuPlan& plan) {
  int64_t bytes = plan.hot_bytes + plan.useless_bytes + kGraphBytes;
  if (plan.products > 0) bytes += kProductBytes;
  if (plan.rules.nccl) bytes += kNcclBytes;
  for (const ProgramTensor& tensor : program.tensors) {
    bytes = checked_add(bytes, allocated_bytes(tensor.bytes), "memory of the replay");
  }
  return bytes;
}

void add_overlap(const ReplayJob& job, const DeviceModel* fits, GpuPlan& plan) {
  const OverlapChunks chunks =
      overlap_chunks(job.rank_program, fits, job.schedule.ranks, plan.rules.nccl);
  const bool any = std::ranges::any_of(
      job.rank_program.ops, [](const ProgramOp& op) { return op.collective.has_value(); });
  plan.overlapped = chunks.split;
  if (chunks.split == 0) {
    if (any) plan.warnings.push_back(fmt::format("no arm overlap: {}", chunks.why_not));
    return;
  }
  if (!chunks.why_not.empty()) {
    plan.warnings.push_back(
        fmt::format("arm overlap leaves some collectives whole: {}", chunks.why_not));
  }
  plan.rules.overlap_chunk_ns = chunks.chunk_ns;
  const auto hot = std::ranges::find(plan.arms, ArmKind::hot, &ReplayArm::kind);
  plan.arms.insert(hot == plan.arms.end() ? hot : hot + 1,
                   {.name = "overlap", .kind = ArmKind::overlap});
}

}  // namespace

GpuPlan plan_for_gpu(const ReplayJob& job, const ReplayRequest& request, const GpuFacts& facts,
                     std::vector<GpuElement> multiplies, bool nccl, const DeviceModel* fits) {
  GpuPlan plan;
  plan.arms = job.arms;
  for (ReplayArm& arm : plan.arms) {
    // Arm null has the plan's kernels with nothing to do: they must be the plan's kind.
    const bool as_plan = arm.kind == ArmKind::null_plan && job.arms[1].planned_bytes > 0;
    settle_method(request, facts, arm.planned_bytes > 0 || as_plan, arm);
  }
  if (nccl && job.schedule.link_latency_ns > 0) {
    throw input_error(
        "{} was planned for a stand-in network link, which real collectives cannot imitate: pass "
        "--collective stand-in, or tune without --link",
        request.schedule);
  }
  plan.rules.sms = facts.sms;
  plan.rules.nccl = nccl;
  plan.rules.host_link_bytes_per_s = facts.host_link_bytes_per_s;
  plan.rules.network_latency_ns = job.schedule.link_latency_ns;
  plan.rules.multiplies = std::move(multiplies);
  for (const ProgramOp& op : job.rank_program.ops) {
    if (product_of(op, plan.rules)) ++plan.products;
  }
  const bool any = std::ranges::any_of(job.rank_program.ops,
                                       [](const ProgramOp& op) { return op.gemm.has_value(); });
  if (any && plan.rules.multiplies.empty()) {
    plan.warnings.push_back(
        "matrix products are read as plain bytes: cuBLASLt is missing (PRESERVE_CUBLASLT or "
        "PRESERVE_SITE_PACKAGES can name it)");
  }
  // Read from any place of the pattern on, so a pattern longer than what is repeated.
  plan.hot_bytes =
      rounded_up(std::max(kLeastHotBytes, facts.l2_bytes / kHotShare), kGpuPatternBytes) +
      kGpuPatternBytes;
  plan.useless_bytes = useless_bytes(plan.arms, facts);
  add_overlap(job, fits, plan);
  plan.memory_bytes = memory_of(job.rank_program, plan);
  return plan;
}

void require_usable(const GpuFacts& facts) {
  if (facts.mig) {
    throw input_error(
        "{} is a slice of a GPU (MIG): its L2 and memory are shared in ways that cannot be planned "
        "for; use a whole GPU, or turn MIG off",
        facts.name);
  }
  if (facts.driver_cuda / 1000 < facts.runtime_cuda / 1000) {
    throw input_error(
        "the driver{} of {} supports CUDA {}.{}, this was built with CUDA {}.{}: a newer driver is "
        "needed",
        facts.driver.empty() ? "" : " (" + facts.driver + ")", facts.name, facts.driver_cuda / 1000,
        facts.driver_cuda % 1000 / 10, facts.runtime_cuda / 1000, facts.runtime_cuda % 1000 / 10);
  }
  if (facts.compute_major < kLeastComputeMajor) {
    throw input_error("{} has compute capability {}.{}; prefetching needs 8.0 or newer", facts.name,
                      facts.compute_major, facts.compute_minor);
  }
}

void require_memory(const GpuPlan& plan, const GpuFacts& facts) {
  if (plan.memory_bytes <= facts.free_bytes) return;
  throw input_error("the replay needs {} of device memory, {} of {} are free on {}",
                    format_size(plan.memory_bytes), format_size(facts.free_bytes),
                    format_size(facts.memory_bytes), facts.name);
}

void require_planned_device(const Schedule& schedule, const std::filesystem::path& schedule_path,
                            const GpuFacts& facts, bool allow_mismatch) {
  if (allow_mismatch || same_device(schedule.device_name, facts.name)) return;
  throw input_error(
      "{} was planned for \"{}\", and this is {}: tune again with a device file of this GPU "
      "(preserve-calibrate --device cuda:{}), or pass --allow-device-mismatch",
      schedule_path.string(), printable(schedule.device_name), facts.name, facts.ordinal);
}

std::string other_use(const GpuState& state) {
  if (!state.other_pids.empty()) {
    return fmt::format("{} other process{} on it (pid {})", state.other_pids.size(),
                       state.other_pids.size() == 1 ? "" : "es", fmt::join(state.other_pids, ", "));
  }
  if (state.utilisation_percent.value_or(0) > kBusyPercent) {
    return fmt::format("it was {} % busy before this began", *state.utilisation_percent);
  }
  return {};
}

}  // namespace preserve
