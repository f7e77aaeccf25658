// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/replay.h"

#include <algorithm>
#include <cmath>

#include "common/environment.h"
#include "common/error.h"
#include "common/units.h"
#include "replay/gpu/executor.h"
#include "replay/gpu/start_edges.h"

namespace preserve {
namespace {

using Meta = std::map<std::string, std::string>;

// Texts of ranks end at a NUL, and an id has any bytes.
std::string to_hex(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes += static_cast<char>(std::stoi(text.substr(at, 2), nullptr, 16));
  }
  return bytes;
}

void join_ranks(const Ranks& ranks, GpuDevice& device) {
  const std::string mine = ranks.rank() == 0 ? to_hex(device.make_collective_id()) : "";
  device.join(from_hex(ranks.all_texts(mine).front()), ranks.rank(), ranks.size());
}

std::vector<GpuElement> products_of(GpuDevice& device) {
  std::vector<GpuElement> elements;
  for (const GpuElement element :
       {GpuElement::fp16, GpuElement::bf16, GpuElement::fp8, GpuElement::int8}) {
    if (device.can_multiply(element)) elements.push_back(element);
  }
  return elements;
}

std::string state_text(const GpuState& state) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (state.sm_clock_mhz) add(fmt::format("SM {} MHz", *state.sm_clock_mhz));
  if (state.memory_clock_mhz) add(fmt::format("memory {} MHz", *state.memory_clock_mhz));
  if (state.temperature_c) add(fmt::format("{} C", *state.temperature_c));
  if (state.utilisation_percent)
    add(fmt::format("{} % busy at the start", *state.utilisation_percent));
  if (!state.throttle.empty()) add("held down: " + state.throttle);
  return text;
}

void describe_device(const GpuFacts& facts, Meta& meta) {
  meta["device_name"] = facts.name;
  meta["gpu_uuid"] = facts.uuid;
  meta["gpu_compute_capability"] = fmt::format("{}.{}", facts.compute_major, facts.compute_minor);
  if (!facts.driver.empty()) meta["gpu_driver"] = facts.driver;
  meta["gpu_l2_bytes"] = std::to_string(facts.l2_bytes);
  meta["gpu_persisting_l2_default_bytes"] = std::to_string(facts.persisting_l2_default_bytes);
}

void describe_plan(const GpuPlan& plan, Meta& meta) {
  const IssueMethod& method = plan.arms[1].method;
  meta["executor"] = "cuda";
  meta["collective"] = plan.rules.nccl                     ? "nccl"
                       : plan.rules.network_latency_ns > 0 ? "stand-in+link"
                                                           : "stand-in";
  meta["method"] = method.name;
  meta["placement"] = method.placement;
  meta["chunk_bytes"] = std::to_string(method.chunk_bytes);
  meta["ctas"] = std::to_string(method.ctas > 0 ? method.ctas
                                                : std::min<int64_t>(kPrefetchCtas, plan.rules.sms));
  meta["eviction"] = method.eviction;
  meta["issue"] = method.issue;
  meta["matrix_products"] = std::to_string(plan.products);
  meta["overlapped_collectives"] = std::to_string(plan.overlapped);
  meta["hot_arm"] =
      fmt::format("every operator reads its bytes from one block of {} that stays cached",
                  format_size(plan.hot_bytes));
}

void describe_run(const GpuExecutor& executor, const GpuState& before, const GpuState& after,
                  Meta& meta) {
  const auto set = [&](const char* key, const std::string& value) {
    if (!value.empty()) meta[key] = value;
  };
  set("gpu_state_before", state_text(before));
  set("gpu_state_after", state_text(after));
  set("gpu_throttle", executor.throttle());
  set("gpu_other_use", executor.other_use());
  meta["graph_launch_ns"] = std::to_string(std::llround(executor.launch_ns()));
  meta["launch_gap_ns"] = std::to_string(std::llround(executor.bare_times().launch_gap_ns));
}

void warn_of(const GpuExecutor& executor, const GpuState& before, ReplayRecord& record) {
  if (tells_nothing(before)) record.result.warnings.emplace_back(kNothingTold);
  const std::optional<Estimated>& step_ns = record.result.arms[0].step_ns;
  if (step_ns && executor.launch_ns() > step_ns->estimate) {
    record.result.warnings.push_back(fmt::format(
        "launching a step takes the processor {}, longer than the step: times may be those of the "
        "launches",
        format_duration(executor.launch_ns())));
  }
  if (executor.throttled_runs() > 0) {
    record.result.warnings.push_back(
        fmt::format("the GPU's clocks were held down ({}) during {} of {} samples",
                    executor.throttle(), executor.throttled_runs(), record.samples.size() + 1));
  }
  if (!executor.other_use().empty()) {
    record.result.warnings.push_back(
        fmt::format("the GPU was used by others too: {}{}", executor.other_use(),
                    record.result.busy ? ", so there is no verdict" : ""));
  }
}

}  // namespace

ReplayRecord replay_on_gpu(const Ranks& ranks, GpuDevice& device, const ReplayJob& job,
                           const ReplayRequest& request, const GpuReplay& how,
                           const MeasureOptions& options,
                           const std::function<void(const std::string&)>& say) {
  const GpuState before = device.state();
  const GpuFacts& facts = device.facts();
  require_usable(facts);
  require_planned_device(job.schedule, request.schedule, facts, how.allow_device_mismatch);
  GpuPlan plan = plan_for_gpu(job, request, facts, products_of(device), how.nccl, how.fits);
  require_memory(plan, facts);
  settle_starts(device, plan);
  if (ranks.rank() == 0) {
    say(fmt::format("measuring {} arms on {}{}, {} of device memory", plan.arms.size(), facts.name,
                    how.nccl ? "" : " with stand-ins for the collectives",
                    format_size(plan.memory_bytes)));
  }
  if (how.nccl) join_ranks(ranks, device);
  GpuExecutor executor(ranks, device, job.rank_program, plan, other_use(before));
  ReplayRecord record = measure_on_ranks(ranks, executor, job, host_name(), options);
  if (ranks.rank() != 0) return record;
  const GpuState after = device.state();
  record.device.kind = "gpu";
  record.device.name = facts.name;
  record.device.cache_bytes = facts.l2_bytes;
  record.device.memory_bytes = facts.memory_bytes;
  record.device.units = facts.sms;
  describe_device(facts, record.meta);
  describe_plan(plan, record.meta);
  describe_run(executor, before, after, record.meta);
  record.result.warnings.insert(record.result.warnings.end(), plan.warnings.begin(),
                                plan.warnings.end());
  warn_of(executor, before, record);
  return record;
}

}  // namespace preserve
