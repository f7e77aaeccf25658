// SPDX-License-Identifier: Apache-2.0
// A recording of kernels without bytes, and the model that it ran: every product and attention gets
// its weights and KV, by name and without gap, however the engine fused and split them.
#include "planner/workload/align/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/as_index.h"
#include "common/output_file.h"
#include "db/trace_db.h"
#include "planner/workload/align/step_size.h"
#include "tests/planner/workload/align/engine_trace.h"
#include "tests/planner/workload/examples.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using align::align_step;
using align::AlignedStep;
using align::write_aligned_trace;
using test::EngineTrace;
using test::fails_with;
using test::model_file;
using testing::AllOf;
using testing::HasSubstr;

class Recordings : public testing::Test {
 protected:
  Recordings() { options_.model = model_file("llama3-8b"); }

  void use_text(const char* name, const std::string& config) {
    options_.model = (directory_ / name).string();
    OutputFile(options_.model, true).write(config);
  }

  // Of `ranks` ranks and `batch` sequences with 1000 tokens each.
  Workload workload(int64_t ranks, int64_t batch, int64_t new_tokens = 1) {
    WorkloadSpec spec = workload_spec(options_);
    spec.ranks = ranks;
    spec.batch = batch;
    spec.context = 1000;
    spec.new_tokens = new_tokens;
    spec.allreduce_ns = 20'000;
    DeviceModel roomy = device_;
    roomy.memory_bytes = 0;
    return generate_workload(spec, roomy);
  }

  TraceDb recorded(const Workload& workload, const EngineTrace& engine,
                   const std::function<void(TraceDb&)>& tweak = {}) {
    test::write_engine_trace(trace_, workload, engine, tweak);
    return TraceDb::open(trace_);
  }

  AlignedStep align(const TraceDb& db, bool force = false) {
    return align_step(db, std::nullopt, std::nullopt, options_, device_, force);
  }

  test::TemporaryDirectory directory_;
  fs::path trace_ = directory_ / "trace.db";
  DeviceModel device_ = test::example_device("h100-sxm");
  WorkloadOptions options_;
};

// Bytes read of each tensor by all operators; fails where two read the same byte.
std::map<std::string, int64_t> bytes_by_tensor(const FoldedStep& step) {
  std::map<std::string, std::map<int64_t, int64_t>> ranges;
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      if (access.mode != AccessMode::read) continue;
      const StepTensor& tensor = step.tensors[as_index(access.tensor)];
      const auto [range, fresh] = ranges[tensor.name].emplace(access.offset_bytes, access.bytes);
      EXPECT_TRUE(fresh) << tensor.name << " is read twice from " << access.offset_bytes;
    }
  }
  std::map<std::string, int64_t> bytes;
  for (const auto& [name, of_tensor] : ranges) {
    int64_t end = 0;
    for (const auto& [begin, length] : of_tensor) {
      EXPECT_EQ(begin, end) << name << ": a gap or an overlap";
      end = begin + length;
    }
    bytes[name] = end;
  }
  return bytes;
}

// Without norms, which engines fuse, and without what a step lacks.
std::map<std::string, int64_t> expected_bytes(const Workload& workload, bool head = true) {
  std::map<std::string, int64_t> bytes = bytes_by_tensor(workload.step);
  std::erase_if(bytes, [&](const auto& tensor) {
    return tensor.first.find("norm") != std::string::npos ||
           tensor.first.find("state") != std::string::npos ||
           (!head && tensor.first == "lm_head.weight");
  });
  return bytes;
}

void expect_all_bytes(const AlignedStep& aligned, const Workload& workload, bool head = true) {
  std::map<std::string, int64_t> found = bytes_by_tensor(aligned.step);
  std::erase_if(found,
                [](const auto& tensor) { return tensor.first.find("norm") != std::string::npos; });
  EXPECT_EQ(found, expected_bytes(workload, head)) << aligned.summary << aligned.table;
}

TEST_F(Recordings, EveryProductAndAttentionGetsItsBytesHoweverKernelsAreCut) {
  const Workload model = workload(4, 16);
  options_.context = "1000";
  options_.batch = 16;
  for (const EngineTrace& engine :
       {EngineTrace{}, EngineTrace{.split_qkv = true, .split_gate_up = true},
        EngineTrace{.two_attention = true}, EngineTrace{.fused_norms = true},
        EngineTrace{.split_gate_up = true, .extra_kernels = true}, EngineTrace{.no_head = true},
        EngineTrace{.noise = 0.3, .slowness = 3},
        EngineTrace{.split_qkv = true, .fused_norms = true, .extra_kernels = true}}) {
    SCOPED_TRACE(testing::Message()
                 << "qkv " << engine.split_qkv << " gate_up " << engine.split_gate_up << " two "
                 << engine.two_attention << " norms " << engine.fused_norms << " extra "
                 << engine.extra_kernels << " no head " << engine.no_head);
    const TraceDb db = recorded(model, engine);
    const AlignedStep aligned = align(db);
    expect_all_bytes(aligned, model, !engine.no_head);
    for (const StepOp& op : aligned.step.ops) {
      for (const StepAccess& access : op.accesses) {
        EXPECT_EQ(access.source, "model");
        EXPECT_GT(access.confidence, 0.4) << op.name;
        EXPECT_LE(access.confidence, 0.95) << op.name;
      }
    }
  }
}

TEST_F(Recordings, KernelsThatStoreKeysAndValuesWriteThem) {
  const Workload model = workload(2, 4);
  options_.batch = 4;
  options_.context = "1000";
  const TraceDb db = recorded(model, {});
  const FoldedStep step = align(db).step;
  int64_t stores = 0;
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      if (access.mode != AccessMode::write) continue;
      ++stores;
      EXPECT_THAT(op.name, HasSubstr("reshape_and_cache"));
      EXPECT_EQ(access.bytes, 4 * 4 * 128 * 2) << "4 sequences, 4 KV heads of 128 numbers";
      EXPECT_TRUE(step.tensors[as_index(access.tensor)].written);
    }
  }
  EXPECT_EQ(stores, 2 * 32) << "keys and values of each layer";
}

TEST_F(Recordings, RoutedAndSharedExpertsMayComeInEitherOrder) {
  use_text("moe.json", R"({"model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5632,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
    "num_experts_per_tok": 4, "decoder_sparse_step": 1, "vocab_size": 151936,
    "max_position_embeddings": 8192, "tie_word_embeddings": false, "use_sliding_window": false})");
  options_.batch = 8;
  options_.context = "1000";
  const Workload usual = workload(1, 8);
  expect_all_bytes(align(recorded(usual, {})), usual);
  expect_all_bytes(align(recorded(usual, {.fused_experts = true})), usual);

  Workload other = usual;  // shared experts first: they begin where the router was
  other.step.ops.clear();
  other.notes.clear();
  std::vector<size_t> order;
  for (size_t i = 0; i < usual.step.ops.size(); ++i) {
    const std::string& name = usual.step.ops[i].name;
    const bool router = name.ends_with("mlp.router");
    if (router) {
      const std::string layer = name.substr(0, name.find("mlp."));
      for (size_t j = i; usual.step.ops[j].name.starts_with(layer); ++j) {
        if (usual.step.ops[j].name.find(".shared.") != std::string::npos) order.push_back(j);
      }
    }
    if (name.find(".shared.") == std::string::npos) order.push_back(i);
  }
  for (const size_t from : order) {
    StepOp op = usual.step.ops[from];
    op.ordinal = static_cast<int32_t>(other.step.ops.size());
    other.step.ops.push_back(std::move(op));
    other.notes.push_back(usual.notes[from]);
  }
  expect_all_bytes(align(recorded(other, {})), usual);
}

TEST_F(Recordings, APrefillIsAlignedWithAllItsTokens) {
  const Workload model = workload(8, 1, 2048);
  const TraceDb db = recorded(model, {.messages = true, .phase = StepPhase::prefill});
  const AlignedStep aligned = align(db);
  EXPECT_EQ(aligned.step.phase, StepPhase::prefill);
  EXPECT_THAT(aligned.summary, AllOf(HasSubstr("prefill of 2048 tokens"), HasSubstr("messages"),
                                     HasSubstr("8 ranks")));
  for (const StepOp& op : aligned.step.ops) {
    if (op.gemm && op.gemm->n != 16032) {
      EXPECT_EQ(op.gemm->m, 2048) << "all but the head";
    }
  }
}

// A chunk of a prompt beside sequences that decode: one batch, with an attention kernel for each
// kind.
TEST_F(Recordings, AChunkOfAPromptBesideDecodesIsAPrefillOfAllTokens) {
  const Workload model = workload(8, 1, 515);
  const TraceDb db = recorded(model, {.two_attention = true,
                                      .messages = true,
                                      .step_range = "execute_context_1(512)_generation_3(3)",
                                      .phase = StepPhase::prefill});
  const AlignedStep aligned = align(db);
  EXPECT_THAT(aligned.summary,
              AllOf(HasSubstr("prefill of 515 tokens"), HasSubstr("the step's annotation"),
                    HasSubstr("bytes known for 100.0 %")));
}

// --- what the recording says
// -----------------------------------------------------------------------

TEST_F(Recordings, RanksAndTokensComeFromTheRecording) {
  const Workload model = workload(4, 24);
  options_.context = "1000";
  const auto summary = [&](const EngineTrace& engine) {
    return align(recorded(model, engine)).summary;
  };
  EXPECT_THAT(summary({.shapes = true}),
              AllOf(HasSubstr("24 tokens (recorded shapes) on 4 ranks"),
                    HasSubstr("129 of 129 products with a recorded shape agree")));
  EXPECT_THAT(summary({.messages = true}), HasSubstr("24 tokens (the messages of the allreduces)"));
  EXPECT_THAT(summary({.step_range = "execute_context_0(0)_generation_24(24)"}),
              HasSubstr("24 tokens (the step's annotation)"));
  options_.batch = 2;
  const AlignedStep other = align(recorded(model, {.shapes = true}));
  EXPECT_THAT(other.step.warnings, testing::Contains(HasSubstr("--batch 2 is not used")));
}

TEST_F(Recordings, WhatTheRecordingDoesNotSayIsAskedForOrDoubted) {
  const Workload model = workload(4, 1);
  const TraceDb unsaid =
      recorded(model, {}, [](TraceDb& db) { db.execute("UPDATE process SET world_size = NULL"); });
  EXPECT_THAT([&] { align(unsaid); }, fails_with("--tp N"));
  options_.ranks = 4;
  const AlignedStep aligned = align(unsaid);
  EXPECT_THAT(aligned.step.warnings, testing::Contains(HasSubstr("--context")));
  EXPECT_THAT(aligned.step.warnings, testing::Contains(HasSubstr("--batch")));
  double lowest = 1;
  for (const StepOp& op : aligned.step.ops) {
    for (const StepAccess& access : op.accesses) lowest = std::min(lowest, access.confidence);
  }
  EXPECT_LT(lowest, 0.5) << "bytes of KV are assumed";
}

TEST_F(Recordings, ADraftModelAroundTheStepIsNoneOfIt) {
  const Workload model = workload(2, 8);
  const TraceDb db = recorded(model, {.drafts_before = 3, .drafts_after = 1});
  options_.batch = 8;
  const AlignedStep aligned = align(db);
  EXPECT_THAT(aligned.summary, AllOf(HasSubstr("bytes known for 100.0 %"),
                                     HasSubstr("24 kernels before or after it")));
  // Layers too many are no draft: they end in no head.
  use_text("short.json", R"({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 29,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256, "max_position_embeddings": 8192})");
  EXPECT_THAT([&] { align(recorded(model, {})); }, fails_with("has no counterpart in the model"));
}

// --- what does not fit
// -----------------------------------------------------------------------------

TEST_F(Recordings, AnotherModelIsRefusedWithTheFirstDisagreement) {
  const Workload model = workload(4, 8);
  options_.batch = 8;
  const TraceDb plain = recorded(model, {});
  options_.model = model_file("llama3-70b");
  EXPECT_THAT([&] { align(plain); }, fails_with("no kernel runs layers."));
  options_.model = model_file("qwen2-7b");  // 28 layers, not 32
  EXPECT_THAT([&] { align(plain); }, fails_with("32 of them attention; the model has"));
  EXPECT_NO_THROW(align(plain, true)) << "--force goes on";
}

TEST_F(Recordings, RecordedShapesDecide) {
  const Workload model = workload(4, 8);
  const TraceDb db = recorded(model, {.shapes = true});
  use_text("close.json", R"({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 13696,
    "vocab_size": 128256, "max_position_embeddings": 8192})");
  EXPECT_THAT([&] { align(db); },
              fails_with("multiplies with 7168 x 4096, where the model has layers.0.mlp.gate_up "
                         "(6848 x 4096)"));
}

TEST_F(Recordings, BytesThatNoMemoryDeliversAreRefused) {
  const Workload model = workload(4, 8);
  options_.batch = 8;
  const TraceDb db = recorded(model, {.slowness = 0.2});
  EXPECT_THAT([&] { align(db); }, fails_with("TB/s, memory has 3"));
}

// --- what is written
// -------------------------------------------------------------------------------

void expect_same_reads(const FoldedStep& written, const FoldedStep& aligned) {
  ASSERT_EQ(written.ops.size(), aligned.ops.size());
  for (size_t i = 0; i < aligned.ops.size(); ++i) {
    const StepOp &got = written.ops[i], &wanted = aligned.ops[i];
    const auto listed = [](const FoldedStep& step, const StepOp& op) {
      std::vector<std::string> accesses;
      for (const StepAccess& access : op.accesses) {
        accesses.push_back(fmt::format("{} {} {} {} {:.3f} {}",
                                       step.tensors[as_index(access.tensor)].name,
                                       access.offset_bytes, access.bytes, to_text(access.mode),
                                       access.confidence, access.source));
      }
      std::sort(accesses.begin(), accesses.end());
      return accesses;
    };
    EXPECT_EQ(listed(written, got), listed(aligned, wanted)) << i << " " << wanted.name;
    EXPECT_EQ(got.gemm, wanted.gemm) << i;
    EXPECT_DOUBLE_EQ(got.floor_ns, wanted.floor_ns) << i;
    ASSERT_EQ(got.collective.has_value(), wanted.collective.has_value());
    if (wanted.collective) {
      EXPECT_EQ(got.collective->bytes, wanted.collective->bytes) << i;
    }
  }
}

TEST_F(Recordings, TheCopyOfTheTraceFoldsToTheSameStepOnEveryRank) {
  const Workload model = workload(2, 4);
  options_.batch = 4;
  options_.context = "1000";
  const TraceDb db = recorded(model, {.ranks_recorded = 2, .split_qkv = true});
  std::vector<AlignedStep> aligned;
  for (const int64_t rank : {0, 1}) {
    aligned.push_back(align_step(db, rank, std::nullopt, options_, device_, false));
  }
  const fs::path copy = directory_ / "copy.db";
  write_aligned_trace(trace_, aligned, "llama3-8b.json", copy);
  const TraceDb written = TraceDb::open(copy);
  EXPECT_THAT(written.meta("notes"), HasSubstr("llama3-8b.json"));
  for (const int64_t rank : {0, 1}) {
    expect_same_reads(fold_step(written, rank), aligned[as_index(rank)].step);
  }
}

TEST_F(Recordings, GuessesGiveWayAndNamesOfTheProgramStay) {
  const Workload model = workload(2, 4);
  options_.batch = 4;
  options_.context = "1000";
  const TraceDb db = recorded(model, {}, [](TraceDb& made) {
    std::vector<int64_t> products;
    {
      Query rows = made.query(
          "SELECT op.id FROM op JOIN string ON string.id = name_id WHERE value LIKE 'nvjet%' ORDER "
          "BY op.id");
      while (rows.next()) products.push_back(rows.integer(0));
    }
    const size_t per_step = products.size() / 3;
    for (size_t i = 0; i < products.size(); ++i) {
      const size_t place = i % per_step;
      if (place > 1) continue;
      const bool named = place == 1;
      const TensorId tensor =
          made.add(TensorRow{.process = {1},
                             .name = made.intern(named ? "model.o_proj" : "aten::mm.weight"),
                             .role = TensorRole::weight,
                             .bytes = 1'000'000,
                             .source = named ? "nvtx_mem" : "shapes"});
      made.add(AccessRow{.op = {products[i]},
                         .tensor = tensor,
                         .bytes = 1'000'000,
                         .source = named ? "range_name" : "inferred",
                         .confidence = named ? 1 : 0.3});
    }
  });
  const AlignedStep aligned = align(db);
  std::vector<std::string> names;
  for (const StepOp& op : aligned.step.ops) {
    if (!op.name.starts_with("nvjet") || names.size() == 2) continue;
    ASSERT_EQ(op.accesses.size(), 1u);
    names.push_back(aligned.step.tensors[as_index(op.accesses.front().tensor)].name);
  }
  EXPECT_THAT(names, testing::ElementsAre("layers.0.attn.qkv.weight", "model.o_proj"));
  const fs::path copy = directory_ / "copy.db";
  write_aligned_trace(trace_, {aligned}, "m", copy);
  expect_same_reads(fold_step(TraceDb::open(copy)), aligned.step);
}

TEST_F(Recordings, TheTableShowsLayersThatAreAlikeOnce) {
  const Workload model = workload(2, 4);
  options_.batch = 4;
  const AlignedStep aligned = align(recorded(model, {.extra_kernels = true}));
  EXPECT_THAT(aligned.table, AllOf(HasSubstr(" to layers.31: alike"), HasSubstr("attn.qkv"),
                                   HasSubstr("without a counterpart"), HasSubstr("splitKreduce")));
}

}  // namespace
}  // namespace preserve
