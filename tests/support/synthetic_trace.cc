// SPDX-License-Identifier: Apache-2.0
#include "tests/support/synthetic_trace.h"

#include <fmt/format.h>

#include <map>

#include "db/step/steps.h"

namespace preserve::test {
namespace {

// Writes one rank: a thread stream whose clock `now_ns_` moves on with every operator.
class RankWriter {
 public:
  RankWriter(TraceDb& db, const SyntheticTrace& spec, int rank) : db_(db), spec_(spec) {
    process_ = db.add(ProcessRow{.host = "testhost",
                                 .pid = 1000 + rank,
                                 .rank = rank,
                                 .world_size = spec.ranks,
                                 .command = "decoder",
                                 .start_ns = 0,
                                 .end_ns = 0});
    stream_ = db.add(StreamRow{
        .process = process_, .device = {}, .kind = StreamKind::thread, .native_id = 1000 + rank});
  }

  void write() {
    if (spec_.name_tensors) add_tensors();
    for (int step = 0; step < spec_.steps; ++step) write_step();
    db_.execute("UPDATE process SET end_ns = ? WHERE id = ?", {now_ns_, process_.value});
  }

 private:
  struct Tensor {
    TensorId id;
    int64_t bytes = 0;
  };

  void add_tensor(const std::string& name, TensorRole role, int64_t bytes) {
    const TensorId id = db_.add(TensorRow{.process = process_,
                                          .name = db_.intern(name),
                                          .role = role,
                                          .base = next_base_,
                                          .bytes = bytes,
                                          .source = "nvtx_mem"});
    next_base_ += bytes;
    tensors_[name] = {id, bytes};
  }

  void add_tensors() {
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string prefix = fmt::format("layers.{}.", layer);
      add_tensor(prefix + "attn.qkv.weight", TensorRole::weight, spec_.qkv_bytes);
      add_tensor(prefix + "attn.core.k_cache", TensorRole::kv, spec_.kv_bytes);
      add_tensor(prefix + "attn.o_proj.weight", TensorRole::weight, spec_.qkv_bytes / 3);
      add_tensor(prefix + "mlp.gate_up.weight", TensorRole::weight, spec_.gate_up_bytes);
      add_tensor(prefix + "mlp.down.weight", TensorRole::weight, spec_.gate_up_bytes / 2);
    }
    add_tensor("lm_head.weight", TensorRole::weight, spec_.lm_head_bytes);
  }

  OpId add_op(const std::string& name, OpKind kind, int64_t dur_ns) {
    const StringId id = db_.intern(name);
    const OpId op = db_.add(OpRow{.stream = stream_,
                                  .kind = kind,
                                  .name = id,
                                  .start_ns = now_ns_,
                                  .end_ns = now_ns_ + dur_ns});
    db_.add(RangeRow{.stream = stream_,
                     .parent = {},
                     .name = id,
                     .depth = 1,
                     .start_ns = now_ns_,
                     .end_ns = now_ns_ + dur_ns});
    now_ns_ += dur_ns + spec_.gap_ns;
    return op;
  }

  void compute(const std::string& name, const std::string& tensor, int64_t bytes) {
    const auto dur_ns =
        spec_.op_latency_ns +
        static_cast<int64_t>(static_cast<double>(bytes) / spec_.bandwidth_bytes_per_s * 1e9);
    const OpId op = add_op(name, OpKind::compute, dur_ns);
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end()) return;
    db_.add(AccessRow{.op = op,
                      .operand = 0,
                      .tensor = found->second.id,
                      .bytes = found->second.bytes,
                      .source = "range_name"});
  }

  void collective(const std::string& name, const char* function, int64_t bytes) {
    if (!spec_.collectives) return;
    const OpId op = add_op(name, OpKind::collective, spec_.allreduce_ns);
    db_.add(CollectiveRow{.op = op,
                          .function = function,
                          .bytes = bytes,
                          .dtype = "MPI_FLOAT",
                          .ranks = spec_.ranks,
                          .communicator = 1,
                          .sequence = sequence_++,
                          .source = "pmpi"});
  }

  void write_step() {
    const int64_t start_ns = now_ns_;
    compute("embed", "", 0);
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string prefix = fmt::format("layers.{}.", layer);
      compute(prefix + "attn.norm", "", 0);
      compute(prefix + "attn.qkv", prefix + "attn.qkv.weight", spec_.qkv_bytes);
      compute(prefix + "attn.core", prefix + "attn.core.k_cache", spec_.kv_bytes);
      compute(prefix + "attn.o_proj", prefix + "attn.o_proj.weight", spec_.qkv_bytes / 3);
      collective(prefix + "attn.allreduce", "allreduce", spec_.allreduce_bytes);
      compute(prefix + "mlp.norm", "", 0);
      compute(prefix + "mlp.gate_up", prefix + "mlp.gate_up.weight", spec_.gate_up_bytes);
      compute(prefix + "mlp.down", prefix + "mlp.down.weight", spec_.gate_up_bytes / 2);
      collective(prefix + "mlp.allreduce", "allreduce", spec_.allreduce_bytes);
    }
    compute("lm_head", "lm_head.weight", spec_.lm_head_bytes);
    collective("sample.allgather", "allgather", 8);
    if (spec_.annotate_steps) {
      db_.add(RangeRow{.stream = stream_,
                       .parent = {},
                       .name = db_.intern("decode_step"),
                       .depth = 0,
                       .start_ns = start_ns,
                       .end_ns = now_ns_});
    }
  }

  TraceDb& db_;
  const SyntheticTrace& spec_;
  ProcessId process_;
  StreamId stream_;
  std::map<std::string, Tensor> tensors_;
  int64_t next_base_ = 1 << 20;
  int64_t now_ns_ = 1'000'000'000;
  int64_t sequence_ = 0;
};

}  // namespace

void write_synthetic_trace(const std::filesystem::path& path, const SyntheticTrace& spec,
                           const std::function<void(TraceDb&)>& tweak) {
  std::filesystem::remove(path);
  TraceDb db = TraceDb::create(path);
  for (int rank = 0; rank < spec.ranks; ++rank) RankWriter(db, spec, rank).write();
  mark_steps(db);
  if (tweak) tweak(db);
  db.finish();
}

TraceDb synthetic_trace(const SyntheticTrace& spec, const std::function<void(TraceDb&)>& tweak) {
  const TemporaryDirectory directory;
  write_synthetic_trace(directory / "trace.db", spec, tweak);
  return TraceDb::open(directory / "trace.db");
}

}  // namespace preserve::test
