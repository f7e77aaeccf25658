// SPDX-License-Identifier: Apache-2.0
#include "db/step/folded_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "db/losses.h"
#include "db/step/phase.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::fails_with;
using test::synthetic_trace;
using test::SyntheticTrace;
using testing::AllOf;
using testing::HasSubstr;

TraceDb trace_after(const std::vector<std::string>& statements, const SyntheticTrace& spec = {}) {
  return synthetic_trace(spec, [&](TraceDb& db) {
    for (const std::string& sql : statements) db.execute(sql);
  });
}

TEST(FoldedStep, OperatorsKeepTheirOrderNamesAndTimes) {
  const SyntheticTrace spec{.layers = 2};
  const FoldedStep step = fold_step(synthetic_trace(spec));
  ASSERT_EQ(step.ops.size(), 2u * 9 + 3);
  EXPECT_EQ(step.ops[0].name, "embed");
  EXPECT_EQ(step.ops[2].name, "layers.0.attn.qkv");
  EXPECT_EQ(step.ops[5].kind, OpKind::collective);
  EXPECT_EQ(step.ops[5].collective->function, "allreduce");
  EXPECT_EQ(step.ops[5].collective->bytes, spec.allreduce_bytes);
  EXPECT_DOUBLE_EQ(step.ops[5].dur_ns, static_cast<double>(spec.allreduce_ns));
  EXPECT_DOUBLE_EQ(step.ops[5].mad_ns, 0);
  for (size_t i = 0; i < step.ops.size(); ++i) EXPECT_EQ(step.ops[i].ordinal, static_cast<int>(i));
  EXPECT_EQ(step.source, "nvtx");
  EXPECT_EQ(step.steps_total, spec.steps);
  EXPECT_EQ(step.steps_used, spec.steps - 1) << "the first step runs cold and is left out";
  EXPECT_EQ(step.world_size, 2);
}

TEST(FoldedStep, AccessesNameTensorsOnce) {
  const SyntheticTrace spec{.layers = 2};
  const FoldedStep step = fold_step(synthetic_trace(spec));
  EXPECT_EQ(step.tensors.size(), 2u * 5 + 1);
  ASSERT_EQ(step.ops[2].accesses.size(), 1u);
  const StepAccess& access = step.ops[2].accesses[0];
  EXPECT_EQ(step.tensors[static_cast<size_t>(access.tensor)].name, "layers.0.attn.qkv.weight");
  EXPECT_EQ(access.bytes, spec.qkv_bytes);
  EXPECT_EQ(step.tensors[static_cast<size_t>(access.tensor)].role, TensorRole::weight);
}

constexpr const char* kQkvProducts =
    "INSERT INTO gemm SELECT op.id, 4, 256, 2048, 'fp16', 'model' FROM op JOIN string "
    "ON string.id = op.name_id WHERE string.value = 'layers.0.attn.qkv'";

TEST(FoldedStep, AccessesAreThoseOfTheRepetitionsThatKnowThemBest) {
  const FoldedStep step = fold_step(trace_after(
      {"UPDATE access SET confidence = 0.5",
       "UPDATE access SET confidence = 0.9, offset_bytes = 128, bytes = 64 WHERE op_id IN "
       "(SELECT id FROM op WHERE step_id IN (SELECT MAX(id) FROM step GROUP BY process_id))"}));
  size_t accesses = 0;
  for (const StepOp& op : step.ops) {
    for (const StepAccess& access : op.accesses) {
      ++accesses;
      EXPECT_EQ(access.offset_bytes, 128) << op.name;
      EXPECT_EQ(access.bytes, 64) << op.name;
      EXPECT_DOUBLE_EQ(access.confidence, 0.9) << op.name;
    }
  }
  EXPECT_GT(accesses, 0U);
}

TEST(FoldedStep, AProductIsKeptWhenAllRepetitionsAgree) {
  const FoldedStep step = fold_step(trace_after({kQkvProducts}));
  EXPECT_EQ(step.ops[2].gemm, (StepGemm{4, 256, 2048, "fp16"}));
  EXPECT_FALSE(step.ops[1].gemm);
  for (const char* odd : {"UPDATE gemm SET m = 5 WHERE op_id = (SELECT MAX(op_id) FROM gemm)",
                          "UPDATE gemm SET dtype = NULL WHERE op_id % 2 = 0",
                          "DELETE FROM gemm WHERE op_id = (SELECT op_id FROM gemm "
                          "JOIN op ON op.id = op_id JOIN stream ON stream.id = stream_id "
                          "JOIN process ON process.id = process_id WHERE rank = 0 "
                          "ORDER BY op_id DESC LIMIT 1)"}) {
    const FoldedStep other = fold_step(trace_after(
        {kQkvProducts,
         "DELETE FROM gemm WHERE op_id IN (SELECT op.id FROM op JOIN stream ON "
         "stream.id = stream_id JOIN process ON process.id = process_id WHERE rank <> 0)",
         odd}));
    EXPECT_FALSE(other.ops[2].gemm) << odd;
  }
}

TEST(FoldedStep, BlocksOfACollectiveAreACount) {
  const auto with_blocks = [](const std::string& value) {
    const TraceDb db = trace_after({"INSERT INTO counter SELECT id, 'blocks', " + value +
                                    " FROM op WHERE kind = 'collective'"});
    return fold_step(db).ops[5].collective->blocks;
  };
  EXPECT_EQ(with_blocks("24.0"), 24);
  EXPECT_EQ(with_blocks("0.0"), std::nullopt);
  EXPECT_EQ(with_blocks("-3.0"), std::nullopt);
  EXPECT_EQ(with_blocks("1e300"), std::nullopt);
}

TEST(FoldedStep, StepsAreFoundByPeriodicityWithoutAnnotation) {
  const SyntheticTrace spec{.annotate_steps = false};
  const FoldedStep step = fold_step(synthetic_trace(spec));
  EXPECT_EQ(step.source, "detected");
  EXPECT_EQ(step.ops.size(), static_cast<size_t>(spec.layers) * 9 + 3);
}

TEST(FoldedStep, OddStepsAreLeftOutAndCounted) {
  const FoldedStep step = fold_step(trace_after(
      {"UPDATE op SET step_id = NULL WHERE id = (SELECT MIN(id) FROM op WHERE step_id = 3)"}));
  EXPECT_EQ(step.steps_used, 4);
  ASSERT_EQ(step.warnings.size(), 1u);
  EXPECT_THAT(step.warnings[0], HasSubstr("1 of 5 steps"));
}

TEST(FoldedStep, MedianIgnoresAnOutlier) {
  const FoldedStep step = fold_step(trace_after(
      {"UPDATE op SET end_ns = end_ns + 100 WHERE step_id = 3 AND kind = 'collective'"}));
  EXPECT_DOUBLE_EQ(step.ops[5].dur_ns, static_cast<double>(SyntheticTrace().allreduce_ns));
}

// Every second repetition has a long first operator that pushes the rest back: the median start of
// the second operator lies inside the median first one, though they never overlapped.
TEST(FoldedStep, OperatorsThatNeverOverlapDoNotOverlapWhenFolded) {
  TraceDb db = TraceDb::create(":memory:");
  const ProcessId process = db.add(ProcessRow{.host = "h", .pid = 1});
  const StreamId stream = db.add(StreamRow{.process = process});
  const StringId names[]{db.intern("a"), db.intern("b"), db.intern("c")};
  const int64_t shapes[][3]{{10, 10, 10}, {10, 50, 10}, {50, 10, 10}, {10, 50, 50}, {50, 10, 50}};
  int64_t base = 0;
  for (const auto& dur : shapes) {
    const StepId step = db.add(StepRow{.process = process,
                                       .ordinal = base / 1000,
                                       .phase = StepPhase::decode,
                                       .start_ns = base,
                                       .end_ns = base + 150,
                                       .source = "nvtx"});
    int64_t now = base;
    for (int i = 0; i < 3; ++i) {
      db.add(OpRow{.stream = stream,
                   .kind = OpKind::compute,
                   .name = names[i],
                   .start_ns = now,
                   .end_ns = now + dur[i],
                   .step = step});
      now += dur[i];
    }
    base += 1000;
  }
  db.finish();
  const FoldedStep step = fold_step(db);
  for (size_t i = 1; i < step.ops.size(); ++i) {
    EXPECT_GE(step.ops[i].start_ns, step.ops[i - 1].start_ns + step.ops[i - 1].dur_ns) << i;
  }
  EXPECT_GE(step.wall_ns, step.ops.back().start_ns + step.ops.back().dur_ns);
}

TEST(FoldedStep, RealOverlapsAreKept) {
  TraceDb db = TraceDb::create(":memory:");
  const ProcessId process = db.add(ProcessRow{.host = "h", .pid = 1});
  const StreamId stream = db.add(StreamRow{.process = process, .kind = StreamKind::gpu});
  const StringId name = db.intern("kernel");
  for (int64_t base = 0; base < 3000; base += 1000) {
    const StepId step = db.add(StepRow{.process = process,
                                       .phase = StepPhase::decode,
                                       .start_ns = base,
                                       .end_ns = base + 100,
                                       .source = "nvtx"});
    db.add(
        OpRow{.stream = stream, .name = name, .start_ns = base, .end_ns = base + 20, .step = step});
    db.add(OpRow{
        .stream = stream, .name = name, .start_ns = base + 15, .end_ns = base + 40, .step = step});
  }
  db.finish();
  const FoldedStep step = fold_step(db);
  EXPECT_DOUBLE_EQ(step.ops[1].start_ns, 15);
}

TEST(FoldedStep, EachRankIsFoldedOnItsOwn) {
  const TraceDb db = synthetic_trace();
  EXPECT_THAT(ranks_with_steps(db), testing::ElementsAre(0, 1));
  EXPECT_EQ(fold_step(db, 1).rank, 1);
  EXPECT_THAT([&] { fold_step(db, 7); }, fails_with("ranks with steps: 0, 1"));
}

TEST(FoldedStep, DamagedRowsAreNamed) {
  const std::pair<const char*, const char*> damages[]{
      {"UPDATE tensor SET bytes = -1", "a size of -1 bytes"},
      {"UPDATE access SET bytes = -5", "a size of -5 bytes"},
      {"UPDATE collective SET bytes = -7", "a size of -7 bytes"},
      {"UPDATE op SET kind = 'xyz'", "invalid operator kind 'xyz'"},
      {"UPDATE tensor SET role = 'zzz'", "invalid tensor role 'zzz'"},
      {"UPDATE op SET end_ns = start_ns - 1 WHERE id % 2", "an operator from"},
      {"UPDATE step SET end_ns = start_ns - 1", "a step from"},
      {"UPDATE process SET world_size = -1", "rank 0 of -1"},
      {"UPDATE process SET rank = 0", "both rank 0"},
  };
  for (const auto& [sql, expected] : damages) {
    const TraceDb db = trace_after({"PRAGMA ignore_check_constraints = ON", sql});
    EXPECT_THAT([&] { fold_step(db); },
                testing::ThrowsMessage<Error>(AllOf(HasSubstr(expected), HasSubstr(db.file()))))
        << sql;
  }
}

TEST(FoldedStep, IsNoLongerThanWhatRunsInIt) {
  const double whole_ns = fold_step(synthetic_trace()).wall_ns;
  // A request that is waited for steps later.
  const TraceDb db = trace_after(
      {"INSERT INTO stream (id, process_id, kind, native_id) VALUES (99, 1, 'async', 0)",
       "UPDATE op SET stream_id = 99, end_ns = end_ns + 1000000000 "
       "WHERE id IN (SELECT min(op.id) FROM op JOIN step ON step.id = op.step_id "
       "             WHERE op.kind = 'collective' AND step.process_id = 1 GROUP BY step.id)"});
  EXPECT_LE(fold_step(db).wall_ns, whole_ns);
}

TEST(Losses, NamesFromTheFileAreMadeSafeForATerminal) {
  const TraceDb db = synthetic_trace({}, [](TraceDb& producing) {
    producing.add_loss({1}, "nvtx", "\x1b[31mred\xe2\x80\xae", 1);
  });
  EXPECT_THAT(loss_sentences(db), testing::ElementsAre(HasSubstr("\\x1b[31mred\\xe2\\x80\\xae")));
}

TEST(Losses, AreToldInSentences) {
  EXPECT_TRUE(loss_sentences(synthetic_trace()).empty());
  const TraceDb db = synthetic_trace({}, [](TraceDb& producing) {
    producing.add_loss({1}, "nvtx", "dropped", 777);
    producing.add_loss({1}, "nvtx", "received", 1000);
    producing.execute("UPDATE process SET complete = 0 WHERE id = 2");
  });
  EXPECT_THAT(loss_sentences(db),
              testing::ElementsAre(HasSubstr("777 records of nvtx of rank 0 are dropped"),
                                   HasSubstr("recording of rank 1 was cut off")));
  const TraceDb cut =
      synthetic_trace({}, [](TraceDb& producing) { producing.set_meta("incomplete", "1"); });
  EXPECT_THAT(loss_sentences(cut), testing::ElementsAre(HasSubstr("is incomplete")));
}

TEST(FoldedStep, NoStepSaysWhatToDo) {
  const TraceDb db = synthetic_trace({.steps = 1, .annotate_steps = false});
  EXPECT_THAT([&] { fold_step(db); }, fails_with("annotate the decode step"));
}

// --- phases --------------------------------------------------------------------------------------

TEST(FoldedStep, ARecordingOfPrefillsAloneIsFoldedWithAWarning) {
  const TraceDb db = trace_after({"UPDATE step SET phase = 'prefill'"});
  const FoldedStep step = fold_step(db);
  EXPECT_EQ(step.phase, StepPhase::prefill);
  EXPECT_EQ(step.steps_total, SyntheticTrace().steps);
  ASSERT_FALSE(step.warnings.empty());
  EXPECT_THAT(step.warnings.front(), HasSubstr("only prefill steps"));
  EXPECT_EQ(recorded_phases(db), std::vector{StepPhase::prefill});
  EXPECT_TRUE(fold_step(db, 0, StepPhase::prefill).warnings.empty()) << "asked for";
  EXPECT_THAT([&] { fold_step(db, 0, StepPhase::decode); },
              testing::ThrowsMessage<Error>(
                  AllOf(HasSubstr("only prefill"), HasSubstr("--phase prefill"))));
}

TEST(FoldedStep, EachPhaseOfAMixedRecordingIsFoldedByItself) {
  const TraceDb db = trace_after(
      {"UPDATE step SET phase = 'decode'", "UPDATE step SET phase = 'prefill' WHERE ordinal < 2"});
  EXPECT_EQ(recorded_phases(db), (std::vector{StepPhase::decode, StepPhase::prefill}));
  EXPECT_EQ(fold_step(db).phase, StepPhase::decode);
  EXPECT_EQ(fold_step(db).steps_total, SyntheticTrace().steps - 2);
  FoldedRows rows;
  const FoldedStep prefill = fold_step(db, 0, StepPhase::prefill, &rows);
  EXPECT_EQ(prefill.steps_total, 2);
  EXPECT_EQ(prefill.steps_used, 2);
  EXPECT_EQ(rows.size(), 2 * prefill.ops.size());
  const auto& [row, ordinal] = rows.back();
  EXPECT_EQ(db.query_integer("SELECT op.name_id = string.id FROM op, string "
                             "WHERE op.id = ? AND string.value = ?",
                             {row, prefill.ops.at(static_cast<size_t>(ordinal)).name}),
            1);
  EXPECT_THAT([&] { fold_step(synthetic_trace(), 0, StepPhase::prefill); },
              fails_with("no prefill step"));
}

TEST(Phase, TheReasonIsTheRangeOrTheAttentionKernels) {
  const TraceDb named = synthetic_trace();
  EXPECT_THAT(phase_reason(named, fold_step(named)), HasSubstr("its range is named decode_step"));

  const SyntheticTrace bare{.annotate_steps = false};
  const TraceDb told = trace_after(
      {"UPDATE string SET value = 'void flash_fwd_kernel<int>' WHERE value LIKE '%attn.core'",
       "UPDATE step SET phase = 'prefill'"},
      bare);
  EXPECT_THAT(phase_reason(told, fold_step(told)),
              HasSubstr("100 % of its attention time are kernels such as void flash_fwd_kernel"));

  const TraceDb unsaid = trace_after({"UPDATE step SET phase = 'unknown'"}, bare);
  EXPECT_THAT(phase_reason(unsaid, fold_step(unsaid)), HasSubstr("taken for decode"));
}

TEST(Phase, KernelNamesTellIt) {
  EXPECT_EQ(phase_of_kernel("void flash_fwd_splitkv_kernel<>"), StepPhase::decode);
  EXPECT_EQ(phase_of_kernel("void Flash_Fwd_Kernel<>"), StepPhase::prefill);
  EXPECT_EQ(phase_of_kernel("fmhaSm100fKernel_PagedKvForGen"), StepPhase::decode);
  EXPECT_EQ(phase_of_kernel("BatchPrefillWithRaggedKVCacheKernel"), StepPhase::prefill);
  EXPECT_EQ(phase_of_kernel("nvjet_tst_context_decode"), StepPhase::unknown) << "no attention";
}

}  // namespace
}  // namespace preserve
