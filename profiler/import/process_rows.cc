// SPDX-License-Identifier: Apache-2.0
// The last join of ProcessBuilder: activities in order of stream and start become rows of op,
// collective and counter, and the operators whose operands are worth naming are passed on.
#include <algorithm>

#include "profiler/gpu/activity_rows.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {
namespace {

constexpr double kHostShapes = 0.7;  // shape of the first tensor of the host call

bool is_point_to_point(std::string_view function) {
  return function == "send" || function == "recv" || function == "sendrecv" || function == "put";
}

// Collective calls put their tensor first; lists and scalars have no dimensions.
std::optional<gpu::Operand> first_tensor(const std::vector<gpu::Operand>& operands) {
  for (const gpu::Operand& operand : operands) {
    if (!operand.dims.empty()) return operand;
  }
  return std::nullopt;
}

std::optional<int64_t> element_count(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) {
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count)) return std::nullopt;
  }
  return count;
}

}  // namespace

// The best that is known of a communication kernel.
gpu::CollectiveFacts ProcessBuilder::communication_facts(
    const GpuActivity& activity, const gpu::KernelIdentity& identity) const {
  gpu::CollectiveFacts facts;
  if (activity.communication != 0) {
    facts = communications_[activity.communication];
  } else if (const auto tensor = first_tensor(operands_.at(activity.operands))) {
    facts.in_elements = element_count(tensor->dims);
    facts.dtype = tensor->dtype;
    // One call may be carried out by a kernel of another name: an all-to-all by sends and receives.
    if (const auto named = functions_.find(activity.op_name); named != functions_.end()) {
      facts.function = named->second;
    }
    facts.source = "shapes";
    facts.confidence = kHostShapes;
  }
  if (facts.function.empty()) facts.function = identity.function;
  return facts;
}

void ProcessBuilder::write_ops(StreamSorter& activities, ImportedProcess& result) {
  activities.sort();
  GpuActivity activity;
  while (activities.next(activity)) {
    const gpu::KernelIdentity& kernel = identity(activity.name);
    const bool communicates =
        !activity.is_copy &&
        (activity.communication != 0 || kernel.kernel_class == gpu::KernelClass::collective ||
         kernel.kernel_class == gpu::KernelClass::p2p);
    gpu::CollectiveFacts facts;
    OpKind kind = activity.is_copy ? OpKind::copy : gpu::op_kind_of(kernel.kernel_class);
    if (communicates) {
      facts = communication_facts(activity, kernel);
      kind = is_point_to_point(facts.function) ? OpKind::p2p : OpKind::collective;
      if (!facts.sequence && facts.communicator) {
        facts.sequence = sequences_[*facts.communicator]++;
      }
    }
    activity.start_ns += base_ns_;
    activity.end_ns += base_ns_;
    const OpId op = gpu::add_op(db_, activity, stream_rows_[activity.stream], kind, {activity.name},
                                {activity.range});
    // A kernel: the host call had returned.
    if (communicates) gpu::add_collective(db_, op, facts, false);
    if (activity.is_copy) continue;
    ++result.kernels;
    if (communicates) continue;
    result.uses.add({.start_ns = activity.start_ns,
                     .dur_ns = activity.end_ns - activity.start_ns,
                     .op = op.value,
                     .name = activity.name,
                     .operands = activity.operands,
                     .scope = activity.scope,
                     .op_name = activity.op_name,
                     .kernel_class = kernel.kernel_class});
  }
}

void ProcessBuilder::write_losses(ProcessId process, int64_t written) {
  db_.add_loss(process, "import", "received", written + lost());
  db_.add_loss(process, "import", "written", written);
  for (const auto& [kind, count] : losses_) db_.add_loss(process, "import", kind, count);
  // Kernels are kept without their launch, but lose range, shapes and module.
  const int64_t launched = written - unmatched_;
  db_.add_loss(process, "launch", "received", written);
  db_.add_loss(process, "launch", "written", launched);
  if (unmatched_ != 0) db_.add_loss(process, "launch", "unmatched", unmatched_);
  if (dropped_ranges_ != 0) db_.add_loss(process, "import", "range_too_deep", dropped_ranges_);
}

}  // namespace preserve::import
