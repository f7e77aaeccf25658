// SPDX-License-Identifier: Apache-2.0
#include "tests/planner/workload/align/engine_trace.h"

#include <cmath>
#include <random>
#include <string_view>

#include "common/as_index.h"

namespace preserve::test {
namespace {

constexpr int64_t kGapNs = 500;
constexpr int64_t kHelperNs = 3'000;

class EngineWriter {
 public:
  EngineWriter(TraceDb& db, const Workload& workload, const EngineTrace& engine, int rank)
      : db_(db), workload_(workload), engine_(engine), random_(static_cast<uint64_t>(rank) + 7) {
    process_ = db.add(ProcessRow{.host = "node0",
                                 .pid = 100 + rank,
                                 .rank = rank,
                                 .world_size = workload.step.world_size,
                                 .command = "serve"});
    const DeviceId device = db.add(DeviceRow{.host = "node0", .kind = "gpu", .name = "gpu"});
    stream_ = db.add(
        StreamRow{.process = process_, .device = device, .kind = StreamKind::gpu, .native_id = 7});
    thread_ = db.add(StreamRow{.process = process_, .kind = StreamKind::thread, .native_id = 1});
  }

  void write() {
    for (int i = 0; i < engine_.steps; ++i) {
      const int64_t start_ns = now_ns_;
      // Alike in each step but for the noise.
      step_ = db_.add(StepRow{.process = process_,
                              .ordinal = i,
                              .phase = engine_.phase,
                              .start_ns = start_ns,
                              .end_ns = INT64_MAX / 2,
                              .source = engine_.step_range.empty() ? "detected" : "nvtx"});
      if (engine_.extra_kernels) kernel("void prepare_inputs_kernel<long>(long*)", kHelperNs);
      for (int draft = 0; draft < engine_.drafts_before; ++draft) write_operators(true);
      write_operators(false);
      for (int draft = 0; draft < engine_.drafts_after; ++draft) write_operators(true);
      db_.execute("UPDATE step SET end_ns = ? WHERE id = ?", {now_ns_, step_.value});
      if (!engine_.step_range.empty()) {
        db_.add(RangeRow{.stream = thread_,
                         .name = db_.intern(engine_.step_range),
                         .start_ns = start_ns,
                         .end_ns = now_ns_});
      }
    }
  }

 private:
  OpId kernel(std::string_view name, double dur_ns, OpKind kind = OpKind::compute) {
    const double factor = 1 + engine_.noise * (2 * std::uniform_real_distribution<>()(random_) - 1);
    const int64_t start_ns = now_ns_ + kGapNs;
    now_ns_ = start_ns + std::llround(dur_ns * engine_.slowness * factor);
    return db_.add(OpRow{.stream = stream_,
                         .kind = kind,
                         .name = db_.intern(name),
                         .start_ns = start_ns,
                         .end_ns = now_ns_,
                         .step = step_});
  }

  void product(double dur_ns, const StepGemm& shape) {
    const OpId id = kernel("nvjet_tst_64x16_64x16_4x1_v_bz_TNT", dur_ns);
    if (!engine_.shapes) return;
    db_.add(GemmRow{.op = id,
                    .m = shape.m,
                    .n = shape.n,
                    .k = shape.k,
                    .dtype = shape.dtype,
                    .source = "shapes"});
  }

  void write_product(const StepOp& op, const OperatorNote& note) {
    const bool split = note.parts.size() == 3   ? engine_.split_qkv
                       : note.parts.size() == 2 ? engine_.split_gate_up
                                                : false;
    if (!split) return product(op.dur_ns, *op.gemm);
    for (const int64_t rows : note.parts) {
      StepGemm part = *op.gemm;
      part.n = rows;
      product(op.dur_ns * static_cast<double>(rows) / static_cast<double>(op.gemm->n), part);
    }
  }

  void write_operators(bool draft) {
    for (const StepOp& op : workload_.step.ops) {
      if (draft && !op.name.starts_with("layers.0.") && op.name != "lm_head") continue;
      write_operator(op, workload_.notes[as_index(op.ordinal)]);
    }
  }

  void write_operator(const StepOp& op, const OperatorNote& note) {
    const std::string_view kind = note.kind;
    const auto named = [&](const char* part) { return op.name.find(part) != std::string::npos; };
    if (kind == "product" && op.gemm) {
      if (op.name == "lm_head" && engine_.no_head) return;
      write_product(op, note);
      if (engine_.extra_kernels && named("qkv") && ++extra_ % 8 == 0) {
        kernel("void gemvx::kernel<int, half>(half*)", 0.2 * op.dur_ns);
      }
      if (engine_.extra_kernels && named("o_proj")) {
        kernel("void cublasLt::splitKreduce_kernel<32, 16, int>(half*)", kHelperNs);
      }
    } else if (kind == "product") {  // routed experts
      if (engine_.fused_experts && named("down")) return;
      kernel("fused_moe_kernel", op.dur_ns * (engine_.fused_experts ? 1.5 : 1));
    } else if (kind == "attention") {
      kernel("void vllm::reshape_and_cache_flash_kernel<half>(half*)", kHelperNs);
      kernel("void flash::flash_fwd_splitkv_kernel<traits>(params)", op.dur_ns);
      if (engine_.two_attention) {
        kernel("void flash::flash_fwd_splitkv_kernel<traits>(params)", 0.5 * op.dur_ns);
      }
      kernel("void flash::flash_fwd_splitkv_combine_kernel<traits>(params)", kHelperNs);
    } else if (kind == "collective") {
      const std::string function = op.collective->function;
      const OpId id = kernel(function == "allreduce" ? "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
                                                     : "ncclDevKernel_AllGather_RING_LL",
                             op.dur_ns, OpKind::collective);
      CollectiveRow row{.op = id,
                        .function = function,
                        .communicator = 1,
                        .sequence = sequence_++,
                        .source = "kernel_name",
                        .confidence = 0.5};
      if (engine_.messages) {
        row.bytes = op.collective->bytes;
        row.ranks = op.collective->ranks;
      }
      db_.add(row);
    } else if (!op.accesses.empty() && op.accesses.front().mode == AccessMode::read) {
      if (!engine_.fused_norms) kernel("void vllm::rms_norm_kernel<half>(half*)", op.dur_ns);
    } else if (named("rope")) {
      kernel("void vllm::rotary_embedding_kernel<half, true>(half*)", op.dur_ns);
    } else if (named("act")) {
      kernel("void vllm::act_and_mul_kernel<half>(half*)", op.dur_ns);
    }
  }

  TraceDb& db_;
  const Workload& workload_;
  const EngineTrace& engine_;
  std::mt19937_64 random_;
  ProcessId process_;
  StreamId stream_, thread_;
  StepId step_;
  int64_t now_ns_ = 1'000'000, sequence_ = 0, extra_ = 0;
};

}  // namespace

void write_engine_trace(const std::filesystem::path& path, const Workload& workload,
                        const EngineTrace& engine, const std::function<void(TraceDb&)>& tweak) {
  std::filesystem::remove(path);
  TraceDb db = TraceDb::create(path);
  for (int rank = 0; rank < engine.ranks_recorded; ++rank) {
    EngineWriter(db, workload, engine, rank).write();
  }
  if (tweak) tweak(db);
  db.finish();
}

}  // namespace preserve::test
