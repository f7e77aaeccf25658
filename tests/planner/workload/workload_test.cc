// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <tuple>

#include "common/error.h"
#include "db/trace_db.h"
#include "planner/schedule/collective_time.h"
#include "planner/workload/workload_options.h"
#include "planner/workload/workload_trace.h"
#include "tests/planner/workload/examples.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using test::example;
using test::example_device;
using test::fails_with;
using test::on_h100;
using test::op_named;
using test::TemporaryDirectory;
using testing::HasSubstr;

// --- bytes ---------------------------------------------------------------------------------------

int64_t read_bytes(const FoldedStep& step, const std::string& op) {
  int64_t bytes = 0;
  for (const StepAccess& access : op_named(step, op).accesses) {
    if (access.mode == AccessMode::read) bytes += access.bytes;
  }
  return bytes;
}

// Of a device with memory for any model, so that bytes of one rank can be looked at.
DeviceModel roomy_device() {
  DeviceModel device = example_device("h100-sxm");
  device.memory_bytes = 0;
  return device;
}

struct LayerBytes {
  const char* model;
  int64_t qkv, o_proj, gate_up, down;  // one rank, 16-bit, from the published shapes
};

TEST(Workload, BytesPerLayerByHand) {
  // (q + k + v rows) * columns * 2 and so on, written out.
  const LayerBytes whole[] = {{"llama3-8b", (4096 + 1024 + 1024) * 4096 * 2, 4096 * 4096 * 2,
                               28672 * 4096 * 2, 14336 * 4096 * 2},
                              {"llama3-70b", (8192 + 1024 + 1024) * 8192 * 2, 8192 * 8192 * 2,
                               57344 * 8192 * 2, 28672 * 8192 * 2},
                              {"qwen2-7b", (3584 + 512 + 512) * 3584 * 2, 3584 * 3584 * 2,
                               37888 * 3584 * 2, 18944 * 3584 * 2},
                              {"qwen2-72b", (8192 + 1024 + 1024) * 8192 * 2, 8192 * 8192 * 2,
                               59136 * 8192 * 2, 29568 * 8192 * 2},
                              {"phi-3-small", (4096 + 1024 + 1024) * 4096 * 2, 4096 * 4096 * 2,
                               28672 * 4096 * 2, 14336 * 4096 * 2},
                              {"phi-3-medium", (5120 + 1280 + 1280) * 5120 * 2, 5120 * 5120 * 2,
                               35840 * 5120 * 2, 17920 * 5120 * 2}};
  for (const LayerBytes& model : whole) {
    for (const int64_t ranks : {1, 2}) {
      const FoldedStep step =
          generate_workload(example(model.model, ranks, 1, 1024), roomy_device()).step;
      EXPECT_EQ(read_bytes(step, "layers.0.attn.qkv"), model.qkv / ranks) << model.model;
      EXPECT_EQ(read_bytes(step, "layers.0.attn.o_proj"), model.o_proj / ranks) << model.model;
      EXPECT_EQ(read_bytes(step, "layers.0.mlp.gate_up"), model.gate_up / ranks) << model.model;
      EXPECT_EQ(read_bytes(step, "layers.0.mlp.down"), model.down / ranks) << model.model;
    }
  }
}

TEST(Workload, FootprintsOfThePaperModels) {
  for (const test::PaperFootprint& model : test::kPaperFootprints) {
    for (const int64_t ranks : {1, 2, 4, 8}) {
      WorkloadSpec spec = example(model.model, ranks, 8, 16384, WeightType::int8);
      AttentionShape& shape = *spec.model.layers.front().attention;
      if (shape.heads % ranks != 0 || shape.kv_heads % ranks != 0) continue;
      shape.window = 0;  // the paper's figure reads the whole context
      const FoldedStep step = generate_workload(spec, roomy_device()).step;
      const auto parts = static_cast<double>(ranks);
      const auto mb = [&](const char* op) {
        return static_cast<double>(read_bytes(step, std::string("layers.0.") + op)) / 1e6;
      };
      EXPECT_NEAR(mb("attn.qkv") + mb("attn.o_proj"), model.attention_weights / parts, 0.06)
          << model.model;
      EXPECT_NEAR(mb("attn.core"), model.kv / parts, 0.06) << model.model;
      EXPECT_NEAR(mb("mlp.gate_up") + mb("mlp.down"), model.mlp / parts, 0.06) << model.model;
    }
  }
}

TEST(Workload, KeyValueHeadsThatDoNotDivideGoByTheFullestRank) {
  // 10 heads on 4 ranks: 3 + 3 + 2 + 2.
  const WorkloadSpec spec = example("phi-3-medium", 4, 1, 1024);
  const FoldedStep step = on_h100(spec).step;
  EXPECT_EQ(read_bytes(step, "layers.0.attn.core"), 2 * 3 * 128 * 1024 * 2);
  EXPECT_THAT(step.warnings, testing::Contains(HasSubstr("do not divide the 10 key-value heads")));
}

TEST(Workload, MoreRanksThanKeyValueHeadsHoldCopies) {
  const auto step = [](int64_t ranks) {
    WorkloadSpec spec = example("llama3-8b", ranks, 1, 1024);
    spec.allreduce_ns = 5000;
    return on_h100(spec).step;
  };
  const FoldedStep eight = step(8), sixteen = step(16);
  EXPECT_EQ(read_bytes(sixteen, "layers.0.attn.core"), read_bytes(eight, "layers.0.attn.core"));
  EXPECT_EQ(read_bytes(sixteen, "layers.0.attn.o_proj"),
            read_bytes(eight, "layers.0.attn.o_proj") / 2);
}

TEST(Workload, RanksMustDivideTheModel) {
  const auto split = [](const char* model, int64_t ranks) {
    return [=] { on_h100(example(model, ranks, 1, 1024)); };
  };
  EXPECT_THAT(split("qwen2-7b", 8), fails_with("8 ranks do not divide the 28 attention heads"));
  EXPECT_THAT(split("llama3-8b", 3), fails_with("3 ranks do not divide the 32 attention heads"));
  EXPECT_THAT(split("llama3-8b", 0), fails_with("invalid --tp 0: expected 1 to"));
  EXPECT_THAT(split("llama3-8b", INT64_MAX), fails_with("--tp"));
}

TEST(Workload, SizesThatOverflowAreRefused) {
  WorkloadSpec spec = example("llama3-8b", 1, 1 << 20, 1 << 27);
  AttentionShape& shape = *spec.model.layers.front().attention;
  shape.kv_heads = shape.heads = shape.head_dim = 1 << 20;
  spec.batch = 4;
  const auto make = [&] { generate_workload(spec, roomy_device()); };
  EXPECT_THAT(make, fails_with("its widths cannot be right"));
  shape.heads = shape.kv_heads = shape.head_dim = 1 << 14;
  spec.batch = 1 << 16;
  EXPECT_THAT(make, fails_with("overflows"));
  spec.batch = 0;
  EXPECT_THAT(make, fails_with("--batch"));
  spec.batch = 1;
  spec.context = -1;
  EXPECT_THAT(make, fails_with("--context"));
}

// --- the step ------------------------------------------------------------------------------------

TEST(Workload, StepLooksLikeARecordedOne) {
  const WorkloadSpec spec = example("llama3-8b", 4, 4, 4096);
  const DeviceModel device = example_device("h100-sxm");
  const FoldedStep step = generate_workload(spec, device).step;
  EXPECT_EQ(step.ops.size(), 2u + 32 * 11 + 4);
  EXPECT_EQ(step.source, "model");
  EXPECT_EQ(step.world_size, 4);
  double end_ns = 0;
  for (size_t i = 0; i < step.ops.size(); ++i) {
    EXPECT_EQ(step.ops[i].ordinal, static_cast<int32_t>(i));
    EXPECT_DOUBLE_EQ(step.ops[i].start_ns, end_ns);
    EXPECT_GT(step.ops[i].dur_ns, 0);
    end_ns += step.ops[i].dur_ns;
  }
  EXPECT_DOUBLE_EQ(step.wall_ns, end_ns);

  const StepOp& gate_up = op_named(step, "layers.31.mlp.gate_up");
  ASSERT_EQ(gate_up.accesses.size(), 1u);
  const StepTensor& weight = step.tensors[static_cast<size_t>(gate_up.accesses[0].tensor)];
  EXPECT_EQ(weight.name, "layers.31.mlp.gate_up.weight");
  EXPECT_EQ(weight.role, TensorRole::weight);
  EXPECT_EQ(weight.bytes, 28672 * 4096 * 2 / 4);
  EXPECT_EQ(gate_up.gemm, (StepGemm{4, 2 * 14336 / 4, 4096, "fp16"}));
  EXPECT_EQ(op_named(step, "layers.0.attn.o_proj").gemm, (StepGemm{4, 4096, 4096 / 4, "fp16"}));
  EXPECT_EQ(op_named(step, "layers.0.mlp.down").gemm, (StepGemm{4, 4096, 14336 / 4, "fp16"}));
  EXPECT_FALSE(op_named(step, "layers.0.attn.core").gemm);
  // 7168 x 4096 at 4 tokens, measured as 22.4 us (1 token) and 22.4 us (8).
  EXPECT_NEAR(gate_up.dur_ns, 22'400, 0.08 * 22'400);

  const StepOp& core = op_named(step, "layers.0.attn.core");
  ASSERT_EQ(core.accesses.size(), 2u);
  EXPECT_EQ(core.accesses[0].bytes + core.accesses[1].bytes, 2 * 2 * 128 * 4096 * 4 * 2);
  const StepTensor& keys = step.tensors[static_cast<size_t>(core.accesses[0].tensor)];
  EXPECT_EQ(keys.name, "layers.0.attn.core.k_cache");
  EXPECT_EQ(keys.role, TensorRole::kv);
  EXPECT_TRUE(keys.written);

  const StepOp& allreduce = op_named(step, "layers.7.mlp.allreduce");
  ASSERT_TRUE(allreduce.collective.has_value());
  EXPECT_EQ(allreduce.collective->bytes, 4 * 4096 * 2);
  EXPECT_EQ(allreduce.collective->ranks, 4);
  EXPECT_NEAR(allreduce.dur_ns, collective_time(device, "allreduce", 4, 4 * 4096 * 2).dur_ns, 1);
}

TEST(Workload, LargeBatchesAreBoundByArithmetic) {
  const FoldedStep small = on_h100(example("llama3-8b", 4, 1, 1024)).step;
  const FoldedStep large = on_h100(example("llama3-8b", 4, 1024, 1024)).step;
  const StepOp& memory_bound = op_named(small, "layers.0.mlp.gate_up");
  EXPECT_LT(memory_bound.floor_ns, memory_bound.dur_ns / 2);
  const StepOp& compute_bound = op_named(large, "layers.0.mlp.gate_up");
  EXPECT_DOUBLE_EQ(compute_bound.floor_ns, compute_bound.dur_ns);
}

TEST(Workload, OneRankHasNoCollectives) {
  const FoldedStep step = on_h100(example("llama3-8b", 1, 1, 1024)).step;
  for (const StepOp& op : step.ops) EXPECT_NE(op.kind, OpKind::collective) << op.name;
}

TEST(Workload, WhatDoesNotFitIsNotApplicable) {
  // GiB: 70.6e9 parameters of two bytes
  EXPECT_THAT([] { on_h100(example("llama3-70b", 1, 1, 1024)); },
              fails_with(ErrorKind::not_applicable, HasSubstr("131.")));
  EXPECT_NO_THROW(on_h100(example("llama3-70b", 4, 1, 1024)));
  EXPECT_THAT(generate_workload(example("llama3-70b", 2, 1, 1024), roomy_device()).step.warnings,
              testing::Contains(HasSubstr("does not state its memory")));
}

TEST(Workload, DevicesThatLackARateAreRefused) {
  const auto step_on = [](const char* device, int64_t ranks, WeightType type) {
    return [=] {
      generate_workload(example("llama3-8b", ranks, 1, 1024, type), example_device(device));
    };
  };
  EXPECT_THAT(step_on("a100-80g", 2, WeightType::fp8), fails_with("no fp8 arithmetic rate"));
  EXPECT_THAT(step_on("ascend-910b", 4, WeightType::int8), fails_with("--allreduce-time"));
  WorkloadSpec spec = example("llama3-8b", 4, 1, 1024, WeightType::int8);
  spec.allreduce_ns = 30'000;
  const FoldedStep step = generate_workload(spec, example_device("ascend-910b")).step;
  EXPECT_DOUBLE_EQ(op_named(step, "layers.0.attn.allreduce").dur_ns, 30'000);
}

TEST(Workload, DoubtsAreStated) {
  WorkloadSpec six = example("llama3-8b", 6, 1, 1024);
  for (LayerShape& layer : six.model.layers) {
    layer.attention->heads = layer.attention->kv_heads = 24;
    layer.mlp->columns = 14'400;
  }
  EXPECT_THAT(on_h100(six).step.warnings, testing::Contains(HasSubstr("6 ranks is interpolated")));
  EXPECT_THAT(on_h100(example("llama3-8b", 2, 16384, 4)).step.warnings,
              testing::Contains(HasSubstr("extrapolated")));
}

// --- the trace -----------------------------------------------------------------------------------

auto facts_of(const FoldedStep& step) {
  return std::tie(step.rank, step.process, step.world_size, step.source, step.steps_total,
                  step.steps_used, step.wall_ns, step.streams);
}
auto facts_of(const StepTensor& tensor) {
  return std::tie(tensor.name, tensor.role, tensor.bytes, tensor.written);
}
auto facts_of(const StepOp& op) {
  return std::tie(op.name, op.kind, op.start_ns, op.dur_ns, op.floor_ns, op.gemm);
}
auto facts_of(const StepCollective& collective) {
  return std::tie(collective.function, collective.bytes, collective.ranks);
}
auto facts_of(const StepAccess& access) {
  return std::tie(access.tensor, access.offset_bytes, access.bytes, access.mode, access.confidence,
                  access.source);
}

void expect_same(const FoldedStep& a, const FoldedStep& b) {
  EXPECT_EQ(facts_of(a), facts_of(b));
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(facts_of(a.tensors[i]), facts_of(b.tensors[i]));
  }
  ASSERT_EQ(a.ops.size(), b.ops.size());
  for (size_t i = 0; i < a.ops.size(); ++i) {
    const StepOp &left = a.ops[i], &right = b.ops[i];
    SCOPED_TRACE(left.name);
    EXPECT_EQ(facts_of(left), facts_of(right));
    ASSERT_EQ(left.collective.has_value(), right.collective.has_value());
    if (left.collective) {
      EXPECT_EQ(facts_of(*left.collective), facts_of(*right.collective));
    }
    ASSERT_EQ(left.accesses.size(), right.accesses.size());
    for (size_t j = 0; j < left.accesses.size(); ++j) {
      EXPECT_EQ(facts_of(left.accesses[j]), facts_of(right.accesses[j]));
    }
  }
}

TEST(Workload, TraceOutFoldsBackToTheSameStep) {
  const TemporaryDirectory directory;
  for (const WeightType type : {WeightType::fp16, WeightType::int8}) {
    const DeviceModel device = example_device("h200");
    const FoldedStep step = generate_workload(example("qwen2-7b", 4, 3, 1000, type), device).step;
    std::filesystem::remove(directory / "trace.db");
    write_workload_trace(step, device, directory / "trace.db");
    expect_same(step, fold_step(TraceDb::open(directory / "trace.db")));
  }
}

TEST(Workload, APrefillWorksOnAllTokensOfItsPrompts) {
  WorkloadSpec spec = example("llama3-8b", 2, 3, 500);
  const Workload decode = on_h100(spec);
  spec.new_tokens = 500;
  const Workload prefill = on_h100(spec);
  ASSERT_EQ(prefill.step.ops.size(), decode.step.ops.size());
  EXPECT_EQ(prefill.bytes.weights, decode.bytes.weights);
  EXPECT_EQ(prefill.bytes.kv, decode.bytes.kv);
  for (size_t i = 0; i < prefill.step.ops.size(); ++i) {
    const StepOp& op = prefill.step.ops[i];
    if (op.gemm) {
      EXPECT_EQ(op.gemm->m, op.name == "lm_head" ? 3 : 1500) << op.name;
    }
    if (op.name == "layers.0.attn.allreduce") {
      EXPECT_EQ(op.collective->bytes, 1500 * 4096 * 2);
    }
  }
  EXPECT_GT(prefill.step.wall_ns, 2 * decode.step.wall_ns) << "bound by arithmetic";
}

TEST(Workload, PartsOfAWeightAddUpToItsRows) {
  const Workload workload =
      generate_workload(example("llama3-8b", 2, 1, 100), example_device("h200"));
  int64_t with_parts = 0;
  for (size_t i = 0; i < workload.notes.size(); ++i) {
    const std::vector<int64_t>& parts = workload.notes[i].parts;
    if (parts.empty()) continue;
    ++with_parts;
    EXPECT_EQ(std::accumulate(parts.begin(), parts.end(), int64_t{0}),
              workload.step.ops[i].gemm->n);
  }
  EXPECT_EQ(with_parts, 2 * 32) << "qkv and gate_up of each layer";
}

TEST(Workload, OptionsMakeTheStepAndTheTrace) {
  const TemporaryDirectory directory;
  WorkloadOptions options;
  options.model = test::model_file("llama3-8b");
  options.ranks = 2;
  options.trace_out = (directory / "out.db").string();
  const DeviceModel device = example_device("h100-sxm");
  const FoldedStep step = workload_step(options, device, false).step;
  expect_same(step, fold_step(TraceDb::open(directory / "out.db")));
  EXPECT_THAT([&] { workload_step(options, device, false); }, fails_with("out.db"))
      << "never overwritten without --force";
  EXPECT_NO_THROW(workload_step(options, device, true));
  options.trace_out = "-";
  EXPECT_THAT([&] { workload_step(options, device, true); }, fails_with("--trace-out"));
}

// --- collective times ----------------------------------------------------------------------------

TEST(CollectiveTime, PiecesGapsAndEnds) {
  DeviceModel device;
  device.name = "d";
  const auto fit = [&](int64_t ranks, double latency_ns, double rate, int64_t min, int64_t max) {
    device.collectives.push_back({"allreduce", "custom", ranks, latency_ns, rate, 0.1, min, max});
  };
  fit(2, 9000, 2e9, 4000, 8000);  // out of order on purpose
  fit(2, 5000, 1e9, 1000, 2000);
  fit(4, 6000, 1e9, 1000, 2000);
  device.collectives.push_back({"allreduce", "nccl", 2, 1, 1e9, 0, 0, 0});  // another library
  const auto time = [&](int64_t ranks, int64_t bytes) {
    return collective_time(device, "allreduce", ranks, bytes);
  };
  EXPECT_DOUBLE_EQ(time(2, 1500).dur_ns, 6500);
  EXPECT_FALSE(time(2, 1500).extrapolated);
  EXPECT_DOUBLE_EQ(time(2, 3000).dur_ns, (7000 + 11000) / 2.0) << "between two pieces";
  EXPECT_FALSE(time(2, 3000).extrapolated);
  EXPECT_DOUBLE_EQ(time(2, 10).dur_ns, 6000) << "not below the smallest measured";
  EXPECT_TRUE(time(2, 10).extrapolated);
  EXPECT_DOUBLE_EQ(time(2, 10'000).dur_ns, 14000);
  EXPECT_TRUE(time(2, 10'000).extrapolated);
  EXPECT_DOUBLE_EQ(time(3, 1500).dur_ns, 7000);
  EXPECT_TRUE(time(3, 1500).between_ranks);
  EXPECT_THAT([&] { time(8, 1); }, fails_with("for 8 ranks (it has 2, 4)"));
  EXPECT_THAT([&] { collective_time(device, "alltoall", 2, 1); }, fails_with("none"));
}

}  // namespace
}  // namespace preserve
