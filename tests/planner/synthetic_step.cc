// SPDX-License-Identifier: Apache-2.0
#include "tests/planner/synthetic_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "tests/support/devices.h"

namespace preserve::test {

namespace {

class StepMaker {
 public:
  StepMaker(double noise, uint64_t seed) : noise_(noise), random_(seed) {
    step_.trace_file = "synthetic";
    step_.source = "model";
    step_.world_size = 8;
    step_.steps_total = step_.steps_used = 1;
    step_.streams = {1};
  }

  int64_t below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit + 1));
  }

  int32_t tensor(std::string name, TensorRole role, int64_t bytes) {
    step_.tensors.push_back({std::move(name), role, bytes, false});
    return static_cast<int32_t>(step_.tensors.size()) - 1;
  }

  StepOp& op(std::string name, OpKind kind, double dur_ns) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step_.ops.size());
    op.kind = kind;
    op.name = std::move(name);
    op.start_ns = step_.wall_ns;
    const double share = static_cast<double>(below(1'000'000)) / 1e6 - 0.5;
    op.dur_ns = dur_ns * (1 + noise_ * share);
    step_.wall_ns += op.dur_ns + 200;
    step_.ops.push_back(std::move(op));
    return step_.ops.back();
  }

  void access(StepOp& op, int32_t tensor, int64_t offset, int64_t bytes, AccessMode mode) {
    op.accesses.push_back({tensor, offset, bytes, mode, 1, "model"});
    StepTensor& touched = step_.tensors[static_cast<size_t>(tensor)];
    touched.written = touched.written || mode == AccessMode::write;
  }

  void allreduce(const std::string& name, double dur_ns) {
    StepCollective collective;
    collective.function = "allreduce";
    collective.bytes = 16384;
    collective.ranks = 8;
    collective.dtype = "fp16";
    op(name, OpKind::collective, dur_ns).collective = collective;
  }

  FoldedStep take() { return std::move(step_); }

 private:
  double noise_;
  std::mt19937_64 random_;
  FoldedStep step_;
};

}  // namespace

FoldedStep synthetic_step(const SyntheticStep& spec) {
  StepMaker maker(spec.noise, spec.seed);
  const auto reads = [&](const std::string& name, TensorRole role, int64_t bytes) {
    const int32_t tensor = maker.tensor(name, role, bytes);
    const double dur_ns =
        spec.op_latency_ns + static_cast<double>(bytes) * 1e9 / spec.bandwidth_bytes_per_s;
    StepOp& op = maker.op(name.substr(0, name.rfind('.')), OpKind::compute, dur_ns);
    maker.access(op, tensor, 0, bytes, AccessMode::read);
    return tensor;
  };
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string at = fmt::format("layers.{}.", layer);
    reads(at + "attn_norm.weight", TensorRole::weight, spec.hidden_bytes);
    reads(at + "qkv.weight", TensorRole::weight, spec.qkv_bytes);
    reads(at + "rope.cache", TensorRole::activation, spec.hidden_bytes);
    const int32_t kv = reads(at + "attn.kv", TensorRole::kv, spec.kv_bytes);
    StepOp& append = maker.op(at + "append", OpKind::compute, spec.op_latency_ns);
    maker.access(append, kv, spec.kv_bytes - spec.kv_bytes / 256, spec.kv_bytes / 256,
                 AccessMode::write);
    reads(at + "o_proj.weight", TensorRole::weight, spec.qkv_bytes * 2 / 3);
    maker.allreduce(at + "attn.allreduce", spec.allreduce_ns);
    reads(at + "mlp_norm.weight", TensorRole::weight, spec.hidden_bytes);
    reads(at + "gate_up.weight", TensorRole::weight, spec.gate_up_bytes);
    reads(at + "act.buffer", TensorRole::activation, spec.hidden_bytes);
    reads(at + "down.weight", TensorRole::weight, spec.gate_up_bytes / 2);
    maker.allreduce(at + "mlp.allreduce", spec.allreduce_ns);
  }
  return maker.take();
}

FoldedStep random_step(uint64_t seed, int largest_ops) {
  StepMaker maker(0, seed);
  const auto ops = 2 + maker.below(largest_ops - 2);
  const auto tensors = 1 + maker.below(ops);
  constexpr TensorRole kRoles[] = {TensorRole::weight, TensorRole::weight, TensorRole::kv,
                                   TensorRole::activation, TensorRole::unknown};
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < tensors; ++i) {
    sizes.push_back(4096 * (1 + maker.below(600)) + maker.below(1) * maker.below(4095));
    maker.tensor(fmt::format("t{}", i), i == 0 ? TensorRole::weight : kRoles[maker.below(4)],
                 sizes.back());
  }
  const auto read_all = [&](StepOp& op, int64_t tensor) {
    maker.access(op, static_cast<int32_t>(tensor), 0, sizes[static_cast<size_t>(tensor)],
                 AccessMode::read);
  };
  read_all(maker.op("first", OpKind::compute, 200'000), 0);
  maker.allreduce("allreduce", static_cast<double>(maker.below(200'000)));
  for (int64_t i = 2; i < ops; ++i) {
    if (maker.below(3) == 0) {
      maker.allreduce("allreduce", static_cast<double>(maker.below(200'000)));
      continue;
    }
    StepOp& op = maker.op(fmt::format("op{}", i), OpKind::compute,
                          static_cast<double>(maker.below(400'000)));
    for (int64_t reads = maker.below(2); reads > 0; --reads) {
      const int64_t tensor = maker.below(tensors - 1);
      const bool again = std::any_of(
          op.accesses.begin(), op.accesses.end(),
          [&](const StepAccess& a) { return a.tensor == static_cast<int32_t>(tensor); });
      if (!again) read_all(op, tensor);
    }
    if (maker.below(5) == 0) {
      const int64_t tensor = maker.below(tensors - 1);
      maker.access(op, static_cast<int32_t>(tensor), 0,
                   std::min<int64_t>(4096, sizes[static_cast<size_t>(tensor)]), AccessMode::write);
    }
  }
  FoldedStep step = maker.take();
  if (seed % 2 == 0) return step;
  for (StepOp& op : step.ops) {  // of some collectives a part is work, of others all
    if (op.kind == OpKind::collective) op.work_ns = op.dur_ns * (op.ordinal % 5) / 4;
  }
  return step;
}

DeviceModel random_device(uint64_t seed) {
  std::mt19937_64 random(seed * 2654435761u + 17);
  const auto below = [&random](int64_t limit) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(limit + 1));
  };
  DeviceModel device = gpu_device();
  device.name = "random";
  device.cache_bytes = 32 << 20;
  device.cache_budget_bytes = 65536 + below(6 << 20);
  device.memory_bandwidth_bytes_per_s = 1e10 + static_cast<double>(below(1'000'000'000)) * 10;
  device.cache_read_bandwidth_bytes_per_s =
      device.memory_bandwidth_bytes_per_s * (1.2 + 0.1 * static_cast<double>(below(20)));
  device.slowdown_per_byte_ns = below(1) == 0 ? 0 : static_cast<double>(below(1000)) * 1e-5;
  device.op_floor_ns = below(3000);
  // Half of the devices are GPUs, whose prefetching outlasts the collective.
  device.kind = below(1) == 0 ? "cpu" : "gpu";
  device.methods = {{"load", device.kind == "cpu" ? "consumer" : "spare",
                     device.memory_bandwidth_bytes_per_s * 0.8, below(5000), 0, 4096, 0}};
  return device;
}

}  // namespace preserve::test
