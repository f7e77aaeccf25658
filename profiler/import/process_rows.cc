// SPDX-License-Identifier: Apache-2.0
// The last join of ProcessBuilder: activities in order of stream and start become rows of op,
// collective and counter, and the operators whose operands are worth naming are passed on.
#include <algorithm>

#include "common/error.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {
namespace {

// How sure each source of a collective's facts is. The library itself would be 1.
constexpr double kKernelMetadata = 0.95;  // c10d wrote it next to the kernel
constexpr double kHostMetadata = 0.9;     // c10d wrote it on the host call that launched the kernel
constexpr double kHostShapes = 0.7;       // shape of the first tensor of that host call
constexpr double kNameOnly = 0.5;         // the kernel's name: function, no bytes

// Message size of one rank, as table collective defines it: what the library's call is given as
// count.
std::optional<int64_t> message_elements(const Communication& facts) {
  return facts.function == "reduce_scatter" && facts.out_elements ? facts.out_elements
                                                                  : facts.in_elements;
}

bool is_point_to_point(std::string_view function) {
  return function == "send" || function == "recv" || function == "sendrecv" || function == "put";
}

// Collective calls put their tensor first; lists and scalars have no dimensions.
std::optional<Operand> first_tensor(const std::vector<Operand>& operands) {
  for (const Operand& operand : operands) {
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

ProcessBuilder::Facts ProcessBuilder::communication_facts(const GpuActivity& activity,
                                                          const KernelIdentity& identity) const {
  Facts facts{{.function = identity.function}, "kernel_name", kNameOnly};
  if (activity.communication != 0) {
    facts.communication = communications_[activity.communication];
    if (facts.communication.function.empty()) facts.communication.function = identity.function;
    facts.source = activity.facts_from_range ? "kineto_host" : "kineto";
    facts.confidence = activity.facts_from_range ? kHostMetadata : kKernelMetadata;
  } else if (const auto tensor = first_tensor(operands_.at(activity.operands))) {
    facts.communication.in_elements = element_count(tensor->dims);
    facts.communication.dtype = tensor->dtype;
    // One call may be carried out by a kernel of another name: an all-to-all by sends and receives.
    if (const auto named = functions_.find(activity.op_name); named != functions_.end()) {
      facts.communication.function = named->second;
    }
    facts.source = "shapes";
    facts.confidence = kHostShapes;
  }
  if (facts.communication.function.empty()) facts.communication.function = "unknown";
  return facts;
}

void ProcessBuilder::write_collective(OpId op, const Facts& facts) {
  const Communication& known = facts.communication;
  CollectiveRow collective{.op = op,
                           .function = known.function,
                           .bytes = known.bytes,
                           .dtype = known.dtype,
                           .ranks = known.ranks,
                           .communicator = known.communicator,
                           .sequence = known.sequence,
                           .peer = known.peer,
                           .blocking = false,  // a kernel: the host call had returned
                           .source = facts.source,
                           .confidence = facts.confidence};
  const auto elements = message_elements(known);
  const auto element_bytes = dtype_bytes(known.dtype);
  int64_t bytes = 0;
  if (!collective.bytes && elements && element_bytes &&
      !__builtin_mul_overflow(*elements, *element_bytes, &bytes) && bytes >= 0) {
    collective.bytes = bytes;
  }
  if (!collective.sequence && collective.communicator) {
    collective.sequence = sequences_[*collective.communicator]++;
  }
  db_.add(collective);
}

void ProcessBuilder::write_ops(StreamSorter& activities, ImportedProcess& result) {
  activities.sort();
  GpuActivity activity;
  while (activities.next(activity)) {
    KernelIdentity kernel = identity(activity.name);
    const bool copies = activity.kind == GpuKind::copy;
    const bool communicates =
        !copies && (activity.communication != 0 || kernel.kernel_class == KernelClass::collective ||
                    kernel.kernel_class == KernelClass::p2p);
    OpRow op{.stream = gpu_streams_[activity.stream].row,
             .kind = copies ? OpKind::copy : op_kind_of(kernel.kernel_class),
             .name = {activity.name},
             .start_ns = activity.start_ns + base_ns_,
             .end_ns = activity.end_ns + base_ns_,
             .range = {activity.range}};
    if (activity.correlation != 0) op.correlation_id = activity.correlation;
    if (activity.graph != 0) op.graph_id = activity.graph;
    if (activity.graph_node >= 0) op.graph_node_id = activity.graph_node;
    Facts facts{};
    if (communicates) {
      facts = communication_facts(activity, kernel);
      op.kind = is_point_to_point(facts.communication.function) ? OpKind::p2p : OpKind::collective;
    }
    const OpId id = db_.add(op);
    if (communicates) write_collective(id, facts);
    if (copies && activity.copy_bytes >= 0) {
      db_.add_counter(id, "copy_bytes", static_cast<double>(activity.copy_bytes));
    }
    if (copies) continue;
    ++result.kernels;
    if (communicates) continue;
    result.uses.add({.start_ns = op.start_ns,
                     .dur_ns = op.end_ns - op.start_ns,
                     .op = id.value,
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
