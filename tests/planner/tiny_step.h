// SPDX-License-Identifier: Apache-2.0
// Steps and plans small enough to work out by hand, for tiny_device(): operators one after another.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/schedule.h"
#include "tests/support/devices.h"

namespace preserve::test {

// Appends operators to a step, each after the previous one.
class TinyStep {
 public:
  TinyStep() {
    step_.trace_file = "tiny";
    step_.streams = {1};
    step_.steps_total = step_.steps_used = 1;
  }

  int32_t collective(double dur_ns, double gap_ns = 0) {
    const int32_t op = add(OpKind::collective, "allreduce", dur_ns, gap_ns);
    step_.ops.back().collective = StepCollective{.function = "allreduce",
                                                 .bytes = 4096,
                                                 .ranks = 2,
                                                 .communicator = 1,
                                                 .blocking = true,
                                                 .dtype = "half"};
    return op;
  }

  // Reads the whole of a tensor of its own.
  int32_t reader(const std::string& name, int64_t bytes, double dur_ns, double gap_ns = 0) {
    const int32_t op = add(OpKind::compute, name, dur_ns, gap_ns);
    read(op, tensor(name + ".weight", bytes));
    return op;
  }

  int32_t add(OpKind kind, const std::string& name, double dur_ns, double gap_ns = 0) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step_.ops.size());
    op.kind = kind;
    op.name = name;
    op.start_ns = now_ns_ + gap_ns;
    op.dur_ns = dur_ns;
    now_ns_ = op.start_ns + dur_ns;
    step_.ops.push_back(std::move(op));
    step_.wall_ns = now_ns_;
    return step_.ops.back().ordinal;
  }

  int32_t tensor(const std::string& name, int64_t bytes, TensorRole role = TensorRole::weight) {
    step_.tensors.push_back({name, role, bytes, false});
    return static_cast<int32_t>(step_.tensors.size()) - 1;
  }

  void read(int32_t op, int32_t tensor) { access(op, tensor, AccessMode::read); }
  void write(int32_t op, int32_t tensor) {
    access(op, tensor, AccessMode::write);
    step_.tensors[static_cast<size_t>(tensor)].written = true;
  }

  FoldedStep& operator*() { return step_; }
  const FoldedStep& operator*() const { return step_; }
  FoldedStep* operator->() { return &step_; }

 private:
  void access(int32_t op, int32_t tensor, AccessMode mode) {
    step_.ops[static_cast<size_t>(op)].accesses.push_back(
        {tensor, 0, step_.tensors[static_cast<size_t>(tensor)].bytes, mode, 1, "test"});
  }

  FoldedStep step_;
  double now_ns_ = 0;
};

// A tiny_device() on which the core that computes prefetches, so nothing arrives after a window.
inline DeviceModel core_device(int64_t budget_bytes) {
  DeviceModel device = tiny_device(budget_bytes);
  device.kind = "cpu";
  device.methods[0].placement = "consumer";
  return device;
}

// Adds one prefetch of the front of `consumer`'s first operand to `plan`. Windows must come in
// order.
inline void prefetch(Plan& plan, const FoldedStep& step, int32_t window, int32_t consumer,
                     int64_t bytes, int64_t offset_bytes = 0) {
  if (plan.windows.empty() || plan.windows.back().ordinal != window) {
    plan.windows.emplace_back();
    plan.windows.back().ordinal = window;
    plan.windows.back().name = step.ops[static_cast<size_t>(window)].name;
  }
  const StepOp& op = step.ops[static_cast<size_t>(consumer)];
  plan.windows.back().prefetches.push_back(
      {.tensor = step.tensors[static_cast<size_t>(op.accesses.at(0).tensor)].name,
       .consumer_ordinal = consumer,
       .consumer = op.name,
       .consumer_place = {},
       .offset_bytes = offset_bytes,
       .length_bytes = bytes,
       .predicted_saved_ns = 0,
       .next_step = consumer <= window});
  plan.windows.back().used_bytes += bytes;
}

// Of windows of a problem or of a plan.
template <typename Windows>
std::vector<int32_t> ordinals_of(const Windows& windows) {
  std::vector<int32_t> ordinals;
  ordinals.reserve(windows.size());
  for (const auto& window : windows) ordinals.push_back(window.ordinal);
  return ordinals;
}

}  // namespace preserve::test
