// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "common/error.h"
#include "tests/replay/step/simple_schedule.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ScheduleCheck : public testing::Test {
 protected:
  ScheduleCheck() {
    test::write_synthetic_trace(trace_);
    step_ = fold_step(TraceDb::open(trace_));
    schedule_ = test::simple_schedule(trace_);
  }

  // The error for the schedule after `damage`.
  std::string refusal(const std::function<void(Schedule&)>& damage) const {
    Schedule bad = schedule_;
    damage(bad);
    try {
      check_schedule(bad, "plan.json", step_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_THAT(error.what(), HasSubstr("plan.json"));
      return error.what();
    }
    ADD_FAILURE() << "nothing was refused";
    return {};
  }

  test::TemporaryDirectory directory_;
  std::filesystem::path trace_ = directory_ / "trace.db";
  FoldedStep step_;
  Schedule schedule_;
};

PlannedPrefetch& first(Schedule& schedule) {
  return schedule.plan.windows[0].prefetches[0];
}

TEST_F(ScheduleCheck, WhatFitsPasses) {
  EXPECT_NO_THROW(check_schedule(schedule_, "plan.json", step_));
}

TEST_F(ScheduleCheck, TheSignatureIsTheStepsCollectives) {
  const std::vector<SignatureCall> signature = signature_of(step_);
  ASSERT_FALSE(signature.empty());
  for (const SignatureCall& call : signature) {
    EXPECT_EQ(step_.ops[static_cast<size_t>(call.ordinal)].kind, OpKind::collective);
    EXPECT_THAT(call.function, testing::AnyOf("allreduce", "allgather"));
    EXPECT_EQ(call.ranks, step_.world_size);
    EXPECT_GT(call.bytes, 0);
  }
  schedule_.signature = signature;
  EXPECT_NO_THROW(check_schedule(schedule_, "plan.json", step_));
  EXPECT_THAT(refusal([](Schedule& s) { ++*s.signature[0].bytes; }), HasSubstr("its signature"));
  EXPECT_THAT(refusal([](Schedule& s) { s.signature.pop_back(); }), HasSubstr("its signature"));
}

TEST_F(ScheduleCheck, TheSignatureSaysWhereMessagesAre) {
  FoldedStep step;
  const auto add = [&](OpKind kind) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(step.ops.size());
    op.kind = kind;
    op.collective.emplace();
    step.ops.push_back(op);
  };
  for (const OpKind kind : {OpKind::collective, OpKind::compute, OpKind::collective, OpKind::p2p,
                            OpKind::p2p, OpKind::collective, OpKind::p2p}) {
    add(kind);
  }
  const auto messages = [&] {
    std::vector<bool> all;
    for (const SignatureCall& call : signature_of(step)) all.push_back(call.messages);
    return all;
  };
  EXPECT_THAT(messages(), testing::ElementsAre(true, false, true));
  step.ops.pop_back();
  EXPECT_THAT(messages(), testing::ElementsAre(false, false, true));
}

TEST_F(ScheduleCheck, OperatorsMustBeThereUnderTheirNames) {
  EXPECT_THAT(refusal([](Schedule& s) { ++s.step_ops; }), HasSubstr("operators"));
  EXPECT_THAT(refusal([](Schedule& s) { s.plan.windows[0].ordinal = 9999; }),
              HasSubstr("as window"));
  EXPECT_THAT(refusal([](Schedule& s) { s.plan.windows[0].ordinal = -1; }), HasSubstr("as window"));
  EXPECT_THAT(refusal([](Schedule& s) { s.plan.windows[0].name = "other"; }), HasSubstr("other"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).consumer_ordinal = -1; }),
              HasSubstr("as consumer"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).consumer = "other"; }),
              AllOf(HasSubstr("consumer"), HasSubstr("other")));
  EXPECT_THAT(refusal([](Schedule& s) { s.candidates[0].windows[0].name = "other"; }),
              HasSubstr("other"));
}

TEST_F(ScheduleCheck, BytesMustBeBytesOfTensors) {
  EXPECT_THAT(refusal([](Schedule& s) { first(s).tensor = "no.such"; }), HasSubstr("no.such"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).length_bytes = 1LL << 40; }),
              HasSubstr("fetches 1099511627776 bytes"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).offset_bytes = 1LL << 50; }),
              HasSubstr("from byte 1125899906842624 on"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).offset_bytes = -1; }), HasSubstr("from byte -1"));
  EXPECT_THAT(refusal([](Schedule& s) { first(s).length_bytes = 0; }), HasSubstr("fetches 0"));
}

TEST_F(ScheduleCheck, WindowsAreWhereNobodyComputes) {
  EXPECT_THAT(refusal([&](Schedule& s) {
                const auto computes = [](const StepOp& op) { return !op.accesses.empty(); };
                const auto op = std::find_if(step_.ops.begin(), step_.ops.end(), computes);
                s.plan.windows[0].ordinal = op->ordinal;
                s.plan.windows[0].name = op->name;
              }),
              HasSubstr("computes"));
}

}  // namespace
}  // namespace preserve
