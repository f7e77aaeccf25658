// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "common/as_index.h"
#include "common/error.h"
#include "common/units.h"
#include "planner/schedule/collective_time.h"

namespace preserve {
namespace {

constexpr int64_t kHalfBytes = 2;  // activations, embeddings, head, norms
constexpr int64_t kMostRanks = 1 << 10;
constexpr int64_t kMostBatch = 1 << 20;
constexpr int64_t kMostContext = 1 << 27;

struct TypeEntry {
  WeightType type;
  const char* text;
  int64_t bytes;
  double DeviceModel::*flops_per_s;
};
constexpr std::array kTypes{TypeEntry{WeightType::fp16, "fp16", 2, &DeviceModel::flops_fp16_per_s},
                            TypeEntry{WeightType::int8, "int8", 1, &DeviceModel::flops_int8_per_s},
                            TypeEntry{WeightType::fp8, "fp8", 1, &DeviceModel::flops_fp8_per_s}};

const TypeEntry& entry_of(WeightType type) {
  return kTypes[static_cast<size_t>(type)];
}

void check_range(const char* option, int64_t value, int64_t most) {
  if (value >= 1 && value <= most) return;
  throw usage_error("invalid {} {}: expected 1 to {}", option, value, most);
}

int64_t product(std::initializer_list<int64_t> factors) {
  int64_t value = 1;
  for (const int64_t factor : factors) value = checked_mul(value, factor, "the model's size");
  return value;
}

// Of the rank with the most: all wait for the slowest. Ranks beyond the number of heads hold
// copies.
int64_t kv_heads_per_rank(const WorkloadSpec& spec) {
  return (spec.model.kv_heads + spec.ranks - 1) / spec.ranks;
}

void check_split(const WorkloadSpec& spec) {
  const ModelConfig& model = spec.model;
  check_range("--tp", spec.ranks, kMostRanks);
  check_range("--batch", spec.batch, kMostBatch);
  check_range("--context", spec.context, kMostContext);
  const auto refuse = [&](const char* what, int64_t count) {
    return not_applicable_error("--tp: {} ranks do not divide the {} {} of {}", spec.ranks, count,
                                what, model.name);
  };
  if (model.heads % spec.ranks != 0) throw refuse("attention heads", model.heads);
  if (model.intermediate % spec.ranks != 0) throw refuse("MLP columns", model.intermediate);
}

void check_memory_rate(const DeviceModel& device) {
  const double rate = device.memory_bandwidth_bytes_per_s;
  if (std::isfinite(rate) && rate > 0 && device.op_floor_ns >= 0) return;
  throw input_error("device {}: invalid memory bandwidth {} or operator floor {} ns", device.name,
                    rate, device.op_floor_ns);
}

double arithmetic_rate(const DeviceModel& device, const TypeEntry& type) {
  const double rate = device.*(type.flops_per_s);
  if (std::isfinite(rate) && rate > 0) return rate;
  throw input_error(
      "device {} states no {} arithmetic rate: choose another --dtype, or add flops_{}_per_s",
      device.name, type.text, type.text);
}

class StepWriter {
 public:
  StepWriter(const WorkloadSpec& spec, const DeviceModel& device, const WorkloadBytes& bytes)
      : spec_(spec),
        device_(device),
        bytes_(bytes),
        flops_per_s_(arithmetic_rate(device, entry_of(spec.type))),
        half_flops_per_s_(arithmetic_rate(device, entry_of(WeightType::fp16))) {
    if (spec.ranks > 1) allreduce_ns_ = time_of_allreduce("allreduce", bytes.allreduce);
  }

  FoldedStep write() {
    step_.trace_file =
        fmt::format("model {} --tp {} --batch {} --context {} --dtype {}", spec_.model.name,
                    spec_.ranks, spec_.batch, spec_.context, to_string(spec_.type));
    step_.process = {1};
    step_.world_size = spec_.ranks;
    step_.source = "model";
    step_.steps_total = step_.steps_used = kWorkloadSteps;
    step_.streams = {1};
    add("embed", OpKind::other, 0, 0);
    allreduce("embed.allreduce");
    for (int64_t layer = 0; layer < spec_.model.layers; ++layer) {
      write_layer(fmt::format("layers.{}.", layer));
    }
    norm("final_norm");
    linear("lm_head", bytes_.lm_head, spec_.model.hidden, WeightType::fp16);
    if (spec_.ranks > 1) gather_logits();
    add("sample", OpKind::other, 0, 0);
    step_.wall_ns = now_ns_;
    step_.warnings.insert(step_.warnings.end(), warnings_.begin(), warnings_.end());
    return std::move(step_);
  }

 private:
  void write_layer(const std::string& layer) {
    const int64_t hidden = spec_.model.hidden;
    const int64_t query_columns = spec_.model.heads / spec_.ranks * spec_.model.head_dim;
    norm(layer + "attn.norm");
    linear(layer + "attn.qkv", bytes_.qkv, hidden, spec_.type);
    attention(layer + "attn.");
    linear(layer + "attn.o_proj", bytes_.o_proj, query_columns, spec_.type);
    allreduce(layer + "attn.allreduce");
    norm(layer + "mlp.norm");
    linear(layer + "mlp.gate_up", bytes_.gate_up, hidden, spec_.type);
    add(layer + "mlp.act", OpKind::other, 0, 0);
    linear(layer + "mlp.down", bytes_.down, spec_.model.intermediate / spec_.ranks, spec_.type);
    allreduce(layer + "mlp.allreduce");
  }

  // Rotates the new keys and writes them and the values after the old ones; the core then reads
  // all.
  void attention(const std::string& prefix) {
    const int64_t side = bytes_.kv / 2;
    const int64_t newest = side / spec_.context;  // one token of every sequence
    add(prefix + "rope", OpKind::compute, 0, 0);
    const std::array tensors{tensor(prefix + "core.k_cache", TensorRole::kv, side),
                             tensor(prefix + "core.v_cache", TensorRole::kv, side)};
    for (const int32_t cache : tensors) {
      access(cache, side - newest, newest, AccessMode::write);
      step_.tensors[as_index(cache)].written = true;
    }
    // Two multiply-adds per element of the cache and query head that shares it.
    const double queries =
        static_cast<double>(spec_.model.heads) / static_cast<double>(spec_.ranks);
    const double flops = 4.0 * queries * static_cast<double>(spec_.batch) *
                         static_cast<double>(spec_.context) *
                         static_cast<double>(spec_.model.head_dim);
    add(prefix + "core", OpKind::compute, bytes_.kv, flops / half_flops_per_s_ * kNsPerS);
    for (const int32_t cache : tensors) access(cache, 0, side, AccessMode::read);
  }

  void norm(const std::string& name) {
    const int64_t bytes = spec_.model.hidden * kHalfBytes;
    add(name, OpKind::compute, bytes, 0);
    access(tensor(name + ".weight", TensorRole::weight, bytes), 0, bytes, AccessMode::read);
  }

  // `inputs`: columns of the weights.
  void linear(const std::string& name, int64_t bytes, int64_t inputs, WeightType type) {
    const int64_t elements = bytes / entry_of(type).bytes;
    const double flops = 2.0 * static_cast<double>(spec_.batch) * static_cast<double>(elements);
    const double flops_per_s = type == WeightType::fp16 ? half_flops_per_s_ : flops_per_s_;
    add(name, OpKind::compute, bytes, flops / flops_per_s * kNsPerS);
    step_.ops.back().gemm = StepGemm{spec_.batch, elements / inputs, inputs, to_string(type)};
    access(tensor(name + ".weight", TensorRole::weight, bytes), 0, bytes, AccessMode::read);
  }

  void allreduce(const std::string& name) {
    if (spec_.ranks > 1) collective(name, "allreduce", bytes_.allreduce, allreduce_ns_);
  }

  void gather_logits() {
    const int64_t vocabulary = (spec_.model.vocabulary + spec_.ranks - 1) / spec_.ranks;
    const int64_t bytes = product({vocabulary, spec_.batch, kHalfBytes});
    const bool fitted =
        std::any_of(device_.collectives.begin(), device_.collectives.end(),
                    [](const CollectiveFit& fit) { return fit.function == "allgather"; });
    if (fitted)
      return collective("sample.allgather", "allgather", bytes,
                        time_of_allreduce("allgather", bytes));
    warnings_.insert(
        "the allgather of the logits is taken to last as long as an allreduce of the "
        "gathered size: the device file has no allgather");
    collective("sample.allgather", "allgather", bytes,
               time_of_allreduce("allreduce", checked_mul(bytes, spec_.ranks, "the logits")));
  }

  double time_of_allreduce(const std::string& function, int64_t message_bytes) {
    if (spec_.allreduce_ns) return static_cast<double>(*spec_.allreduce_ns);
    const CollectiveTime time = collective_time(device_, function, spec_.ranks, message_bytes);
    if (time.extrapolated) {
      warnings_.insert(
          fmt::format("{} of {} on {} ranks is outside the sizes measured on {}: its "
                      "{} is extrapolated",
                      function, format_size(message_bytes), spec_.ranks, device_.name,
                      format_duration(time.dur_ns)));
    }
    if (time.between_ranks) {
      warnings_.insert(
          fmt::format("{} on {} ranks is interpolated: {} has measurements of fewer and "
                      "of more ranks only",
                      function, spec_.ranks, device_.name));
    }
    return std::round(time.dur_ns);
  }

  void collective(const std::string& name, const std::string& function, int64_t bytes,
                  double dur_ns) {
    StepOp& op = append(name, OpKind::collective, dur_ns);
    op.collective = StepCollective{.function = function,
                                   .bytes = bytes,
                                   .ranks = spec_.ranks,
                                   .communicator = 1,
                                   .blocking = true,
                                   .dtype = "half"};
  }

  void add(const std::string& name, OpKind kind, int64_t read_bytes, double arithmetic_ns) {
    const double memory_ns =
        static_cast<double>(read_bytes) / device_.memory_bandwidth_bytes_per_s * kNsPerS;
    const auto launch_ns = static_cast<double>(device_.op_floor_ns);
    StepOp& op = append(name, kind, std::round(launch_ns + std::max(memory_ns, arithmetic_ns)));
    if (arithmetic_ns > 0) op.floor_ns = std::round(launch_ns + arithmetic_ns);
  }

  StepOp& append(const std::string& name, OpKind kind, double dur_ns) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step_.ops.size());
    op.kind = kind;
    op.name = name;
    op.start_ns = now_ns_;
    op.dur_ns = dur_ns;
    now_ns_ += dur_ns;
    step_.ops.push_back(std::move(op));
    return step_.ops.back();
  }

  int32_t tensor(std::string name, TensorRole role, int64_t bytes) {
    step_.tensors.push_back({std::move(name), role, bytes, false});
    return static_cast<int32_t>(step_.tensors.size()) - 1;
  }

  void access(int32_t tensor, int64_t offset_bytes, int64_t bytes, AccessMode mode) {
    step_.ops.back().accesses.push_back({tensor, offset_bytes, bytes, mode, 1, "model"});
  }

  const WorkloadSpec& spec_;
  const DeviceModel& device_;
  const WorkloadBytes& bytes_;
  double flops_per_s_, half_flops_per_s_;
  double allreduce_ns_ = 0;
  double now_ns_ = 0;
  FoldedStep step_;
  std::set<std::string> warnings_;  // once each
};

}  // namespace

const char* to_string(WeightType type) {
  return entry_of(type).text;
}

WorkloadBytes workload_bytes(const WorkloadSpec& spec) {
  check_split(spec);
  const ModelConfig& model = spec.model;
  const int64_t element = entry_of(spec.type).bytes;
  const int64_t heads = model.heads / spec.ranks;
  const int64_t kv_heads = kv_heads_per_rank(spec);
  const int64_t columns = model.intermediate / spec.ranks;
  const int64_t vocabulary = (model.vocabulary + spec.ranks - 1) / spec.ranks;
  WorkloadBytes bytes;
  bytes.qkv = product({heads + 2 * kv_heads, model.head_dim, model.hidden, element});
  bytes.o_proj = product({heads, model.head_dim, model.hidden, element});
  bytes.gate_up = product({2, columns, model.hidden, element});
  bytes.down = product({columns, model.hidden, element});
  bytes.kv = product({2, kv_heads, model.head_dim, spec.context, spec.batch, element});
  bytes.lm_head = product({vocabulary, model.hidden, kHalfBytes});
  bytes.embedding = model.tied_embeddings ? 0 : bytes.lm_head;
  bytes.allreduce = product({spec.batch, model.hidden, kHalfBytes});
  int64_t layer = 0;
  for (const int64_t part : {bytes.qkv, bytes.o_proj, bytes.gate_up, bytes.down, bytes.kv}) {
    layer = checked_add(layer, part, "the model's size");
  }
  bytes.total = checked_add(checked_mul(layer, model.layers, "the model's size"),
                            bytes.lm_head + bytes.embedding, "the model's size");
  return bytes;
}

FoldedStep make_workload(const WorkloadSpec& spec, const DeviceModel& device) {
  const WorkloadBytes bytes = workload_bytes(spec);
  check_memory_rate(device);
  if (spec.allreduce_ns.value_or(0) < 0) throw usage_error("--allreduce-time: negative");
  if (device.memory_bytes > 0 && bytes.total > device.memory_bytes) {
    throw not_applicable_error(
        "{} with --tp {}, batch {} and context {} in {} needs {} per rank, {} has {}: use "
        "more ranks, or a smaller batch, context or type",
        spec.model.name, spec.ranks, spec.batch, spec.context, to_string(spec.type),
        format_size(bytes.total), device.name, format_size(device.memory_bytes));
  }
  FoldedStep step = StepWriter(spec, device, bytes).write();
  step.warnings.insert(step.warnings.begin(), spec.model.warnings.begin(),
                       spec.model.warnings.end());
  if (spec.model.kv_heads % spec.ranks != 0 && spec.ranks % spec.model.kv_heads != 0) {
    step.warnings.push_back(fmt::format(
        "{} ranks do not divide the {} key-value heads of {}: planned for a rank with {} of them",
        spec.ranks, spec.model.kv_heads, spec.model.name, kv_heads_per_rank(spec)));
  }
  if (device.memory_bytes == 0) {
    step.warnings.push_back(
        fmt::format("{} does not state its memory: whether {} per rank fit is unknown", device.name,
                    format_size(bytes.total)));
  }
  return step;
}

}  // namespace preserve
