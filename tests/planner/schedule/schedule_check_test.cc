// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "common/error.h"
#include "tests/replay/step/simple_schedule.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::fails_with;
using testing::AllOf;
using testing::HasSubstr;

class ScheduleCheck : public testing::Test {
 protected:
  ScheduleCheck() {
    test::write_synthetic_trace(trace_);
    step_ = fold_step(TraceDb::open(trace_));
    schedule_ = test::simple_schedule(trace_);
  }

  // The schedule after `damage`.
  template <typename Matcher>
  void expect_refused(const Matcher& says, const std::function<void(Schedule&)>& damage,
                      int of_line = __builtin_LINE()) const {
    SCOPED_TRACE(of_line);
    Schedule bad = schedule_;
    damage(bad);
    EXPECT_THAT([&] { check_schedule(bad, "plan.json", step_); },
                fails_with(ErrorKind::input, AllOf(HasSubstr("plan.json"), says)));
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
  expect_refused(HasSubstr("its signature"), [](Schedule& s) { ++*s.signature[0].bytes; });
  expect_refused(HasSubstr("its signature"), [](Schedule& s) { s.signature.pop_back(); });
}

TEST_F(ScheduleCheck, TheSignatureSaysWhereMessagesAre) {
  FoldedStep step;
  for (const OpKind kind : {OpKind::collective, OpKind::compute, OpKind::collective, OpKind::p2p,
                            OpKind::p2p, OpKind::collective, OpKind::p2p}) {
    StepOp& op = step.ops.emplace_back();
    op.ordinal = static_cast<int32_t>(step.ops.size()) - 1;
    op.kind = kind;
    op.collective.emplace();
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
  expect_refused(HasSubstr("operators"), [](Schedule& s) { ++s.step_ops; });
  expect_refused(HasSubstr("as window"), [](Schedule& s) { s.plan.windows[0].ordinal = 9999; });
  expect_refused(HasSubstr("as window"), [](Schedule& s) { s.plan.windows[0].ordinal = -1; });
  expect_refused(HasSubstr("other"), [](Schedule& s) { s.plan.windows[0].name = "other"; });
  expect_refused(HasSubstr("as consumer"), [](Schedule& s) { first(s).consumer_ordinal = -1; });
  expect_refused(AllOf(HasSubstr("consumer"), HasSubstr("other")),
                 [](Schedule& s) { first(s).consumer = "other"; });
  expect_refused(HasSubstr("other"),
                 [](Schedule& s) { s.candidates[0].windows[0].name = "other"; });
}

TEST_F(ScheduleCheck, BytesMustBeBytesOfTensors) {
  expect_refused(HasSubstr("no.such"), [](Schedule& s) { first(s).tensor = "no.such"; });
  expect_refused(HasSubstr("fetches 1099511627776 bytes"),
                 [](Schedule& s) { first(s).length_bytes = 1LL << 40; });
  expect_refused(HasSubstr("from byte 1125899906842624 on"),
                 [](Schedule& s) { first(s).offset_bytes = 1LL << 50; });
  expect_refused(HasSubstr("from byte -1"), [](Schedule& s) { first(s).offset_bytes = -1; });
  expect_refused(HasSubstr("fetches 0"), [](Schedule& s) { first(s).length_bytes = 0; });
}

TEST_F(ScheduleCheck, WindowsMayBeBesideOperators) {
  const auto computes = [](const StepOp& op) { return !op.accesses.empty(); };
  const auto op = std::find_if(step_.ops.begin(), step_.ops.end(), computes);
  ASSERT_NE(op, step_.ops.end());
  schedule_.plan.windows[0].ordinal = op->ordinal;
  schedule_.plan.windows[0].name = op->name;
  EXPECT_NO_THROW(check_schedule(schedule_, "plan.json", step_));
}

// `step` as another recording has it, in which a rest of the program in front of `ordinal` lasts.
FoldedStep with_rest_before(FoldedStep step, int32_t ordinal) {
  StepOp rest;
  rest.kind = OpKind::other;
  rest.name = step.ops[static_cast<size_t>(ordinal)].name;
  step.ops.insert(step.ops.begin() + ordinal, rest);
  for (size_t i = 0; i < step.ops.size(); ++i) step.ops[i].ordinal = static_cast<int32_t>(i);
  return step;
}

// An operator of its own is known by what it reads.
std::vector<std::string> fetched_for(const Plan& plan, const FoldedStep& step) {
  std::vector<std::string> all;
  for (const PlannedWindow& window : plan.windows) {
    EXPECT_EQ(step.ops.at(static_cast<size_t>(window.ordinal)).kind, OpKind::collective);
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const StepOp& op = step.ops.at(static_cast<size_t>(prefetch.consumer_ordinal));
      std::string reads;
      for (const StepAccess& access : op.accesses) {
        reads += step.tensors[static_cast<size_t>(access.tensor)].name + " ";
      }
      all.push_back(prefetch.tensor + " for a reader of " + reads);
    }
  }
  return all;
}

TEST_F(ScheduleCheck, OperatorsAreFoundByPathAndOccurrenceInOtherRecordings) {
  schedule_.signature = signature_of(step_);
  name_places(step_, schedule_);
  const std::vector<std::string> fetched = fetched_for(schedule_.plan, step_);
  ASSERT_FALSE(fetched.empty());
  // Also one that is named as the first window is: all that follows has another ordinal.
  for (const int32_t at : {0, schedule_.plan.windows.front().ordinal}) {
    const FoldedStep other = with_rest_before(step_, at);
    EXPECT_THROW(check_schedule(schedule_, "plan.json", other), Error);
    Schedule moved = schedule_;
    move_to(other, "plan.json", moved);
    EXPECT_NO_THROW(check_schedule(moved, "plan.json", other));
    EXPECT_EQ(fetched_for(moved.plan, other), fetched);
    EXPECT_EQ(fetched_for(moved.candidates[0], other), fetched);
    move_to(step_, "plan.json", moved);
    EXPECT_EQ(moved.plan.windows.front().ordinal, schedule_.plan.windows.front().ordinal);
  }
}

TEST_F(ScheduleCheck, WhatAnotherRecordingLacksIsRefused) {
  schedule_.signature = signature_of(step_);
  name_places(step_, schedule_);
  const auto moving = [](const FoldedStep& other, const Schedule& schedule) {
    return [&] {
      Schedule moved = schedule;
      move_to(other, "plan.json", moved);
    };
  };
  FoldedStep other = step_;
  other.ops[static_cast<size_t>(first(schedule_).consumer_ordinal)].name = "renamed";
  EXPECT_THAT(moving(other, schedule_),
              fails_with(ErrorKind::input,
                         AllOf(HasSubstr("plan.json"), HasSubstr(first(schedule_).consumer))));
  other = step_;
  *other.ops[static_cast<size_t>(schedule_.plan.windows[0].ordinal)].collective->bytes += 1;
  EXPECT_THAT(moving(other, schedule_), fails_with(ErrorKind::input, HasSubstr("its collectives")));
  Schedule old = schedule_;  // as before version 1.3
  first(old).consumer_place.reset();
  EXPECT_THAT(moving(step_, old), fails_with(ErrorKind::input, HasSubstr("by ordinal alone")));
}

}  // namespace
}  // namespace preserve
