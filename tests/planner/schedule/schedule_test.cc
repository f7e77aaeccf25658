// SPDX-License-Identifier: Apache-2.0
// schedule.json: any schedule survives the file; every broken rule is refused at its place.
#include "planner/schedule/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>
#include <functional>
#include <string>

#include "common/error.h"
#include "common/output_file.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;

PlannedPrefetch prefetch(const std::string& tensor, int32_t consumer, int64_t offset,
                         int64_t length) {
  return {.tensor = tensor,
          .consumer_ordinal = consumer,
          .consumer = "op",
          .consumer_place = {},
          .offset_bytes = offset,
          .length_bytes = length,
          .predicted_saved_ns = 1.5};
}

Schedule sample() {
  Schedule schedule;
  schedule.trace_path = "trace.db";
  schedule.trace_sha256 = std::string(64, 'a');
  schedule.ranks = 2;
  schedule.step_ops = 10;
  schedule.signature = {
      {.ordinal = 3, .function = "allreduce", .bytes = 40, .type = "MPI_FLOAT", .ranks = 2},
      {.ordinal = 7, .function = "broadcast", .blocking = false}};
  schedule.budget_bytes = 1000;
  schedule.device_name = "box";
  PlannedWindow window;
  window.ordinal = 3;
  window.name = "allreduce";
  window.binds = "window";
  window.used_bytes = 30;
  window.place = {"0/collective/allreduce", 0};
  window.prefetches = {prefetch("a", 4, 0, 10), prefetch("a", 4, 10, 20)};
  window.prefetches[0].consumer_place = {"1/compute/reader", 2};
  schedule.plan.strategy = Strategy::flow;
  schedule.plan.verdict = PlanVerdict::prefetch;
  schedule.plan.reasons = {"because"};
  schedule.plan.windows = {window};
  schedule.candidates = {schedule.plan};
  return schedule;
}

Schedule read(const std::string& text) {
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "schedule.json") << text;
  return load_schedule(folder / "schedule.json");
}

std::string error_of(const std::string& text) {
  try {
    read(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_THAT(error.what(), HasSubstr("schedule.json"));
    return error.what();
  }
  return "accepted";
}

// The sample's file, with other words in place of the first `word`.
std::string sample_with(const std::string& word, const std::string& other) {
  std::string text = to_json(sample());
  return text.replace(text.find(word), word.size(), other);
}

std::string error_after(const std::function<void(Schedule&)>& change) {
  Schedule schedule = sample();
  change(schedule);
  return error_of(to_json(schedule));
}

void expect_refused(const std::string& says, const std::function<void(Schedule&)>& change) {
  EXPECT_THAT(error_after(change), HasSubstr(says)) << says;
}

TEST(Schedule, AcceptsTheSample) {
  EXPECT_EQ(error_of(to_json(sample())), "accepted");
}

TEST(Schedule, RefusesBrokenPlans) {
  expect_refused("at /windows/0/used_bytes",
                 [](Schedule& s) { s.plan.windows[0].used_bytes = 29; });
  expect_refused("at /windows/0/path",
                 [](Schedule& s) { s.plan.windows[0].place->path = "allreduce"; });
  expect_refused("at /windows/0/prefetches/0/consumer_occurrence", [](Schedule& s) {
    s.plan.windows[0].prefetches[0].consumer_place->occurrence = -1;
  });
  expect_refused("byte 9 of a is fetched twice",
                 [](Schedule& s) { s.plan.windows[0].prefetches[1].offset_bytes = 9; });
  expect_refused("at /windows/0/prefetches/0/length_bytes",
                 [](Schedule& s) { s.plan.windows[0].prefetches[0].length_bytes = 0; });
  expect_refused("at /candidates/0/windows/0/prefetches/0/offset_bytes",
                 [](Schedule& s) { s.candidates[0].windows[0].prefetches[0].offset_bytes = -1; });
  expect_refused("operator 7 does not exist", [](Schedule& s) { s.step_ops = 4; });
  expect_refused("windows must ascend",
                 [](Schedule& s) { s.plan.windows.push_back(s.plan.windows[0]); });
  expect_refused("above budget_bytes", [](Schedule& s) { s.plan.cache_peak_bytes = 1001; });
  expect_refused("at /candidates/0/cache/peak_bytes", [](Schedule& s) {
    s.candidates[0].strategy = Strategy::bfs;
    s.candidates[0].cache_peak_bytes = 1001;
  });
  expect_refused("do-nothing, but the plan prefetches",
                 [](Schedule& s) { s.plan.verdict = PlanVerdict::do_nothing; });
  expect_refused("at /trace/sha256", [](Schedule& s) { s.trace_sha256 = "xyz"; });
}

// The expressions of the schema bound what they match: std::regex recurses once for each character.
TEST(Schedule, RefusesTextOfAnyLength) {
  const std::string digits(300'000, '0');
  expect_refused("at /windows/0/path",
                 [&](Schedule& s) { s.plan.windows[0].place->path = digits; });
  EXPECT_EQ(error_after([&](Schedule& s) { s.plan.windows[0].place->path += digits; }), "accepted");
  EXPECT_THAT(error_of(sample_with("\"1.3\"", "\"1." + digits + "3\"")), HasSubstr("at /version"));
}

TEST(Schedule, NamesItsStepFirst) {
  const test::TemporaryDirectory folder;
  const auto peek = [&](const std::string& text) {
    std::ofstream(folder / "schedule.json") << text;
    return peek_planned_step(folder / "schedule.json");
  };
  Schedule schedule = sample();
  schedule.rank = 3;
  schedule.prefill = true;
  schedule.warnings = {std::string(1 << 16, 'w')};  // longer than what is looked at
  const std::string text = to_json(schedule);
  EXPECT_EQ(peek(text), planned_step(schedule));
  EXPECT_EQ(peek(text.substr(0, text.find("\"device\""))), planned_step(schedule));
  for (const char* other :
       {"", "{", "[1]", R"({"trace": [{"rank": 1}]})", R"({"trace": {"rank": "1"}})",
        R"({"device": {"rank": 1}})", R"({"device": {"trace": {"rank": 1}}})"}) {
    EXPECT_EQ(peek(other), std::nullopt) << other;
  }
  EXPECT_EQ(peek_planned_step(folder / "missing.json"), std::nullopt);
}

TEST(Schedule, AByteServesTwoUses) {
  Schedule schedule = sample();
  schedule.plan.windows[0].prefetches[1] = prefetch("a", 5, 0, 20);  // another consumer
  EXPECT_EQ(error_of(to_json(schedule)), "accepted");
}

TEST(Schedule, IsNotWrittenWithNumbersThatNobodyReads) {
  Schedule schedule = sample();
  schedule.link_latency_ns = (int64_t{1} << 53) - 1;
  EXPECT_EQ(error_of(to_json(schedule)), "accepted");
  schedule.link_latency_ns += 1;
  EXPECT_THROW(to_json(schedule), Error);
  schedule.link_latency_ns = 0;
  schedule.candidates[0].baseline_step_ns = int64_t{1} << 60;
  EXPECT_THROW(to_json(schedule), Error);
}

TEST(Schedule, NewerVersionsAreRefusedNamingBoth) {
  EXPECT_THAT(error_of(sample_with("\"1.3\"", "\"2.3\"")),
              testing::AllOf(HasSubstr("2.3"), HasSubstr("1.3")));
  EXPECT_THAT(error_of(sample_with("\"1.3\"", "\"1.4\"")),
              testing::AllOf(HasSubstr("1.4"), HasSubstr("up to 1.3")));
}

TEST(Schedule, OneOfVersion1_1HasNoSignature) {
  std::string text = sample_with("\"1.3\"", "\"1.1\"");
  const size_t begin = text.find("  \"signature\"");
  text.erase(begin, text.find(']', begin) + 3 - begin);
  EXPECT_TRUE(read(text).signature.empty());
}

TEST(Schedule, TheSignatureNamesOperatorsInOrder) {
  expect_refused("at /signature/0/ordinal: operator 10 does not exist",
                 [](Schedule& s) { s.signature[0].ordinal = 10; });
  expect_refused("at /signature/1/ordinal: collectives must ascend",
                 [](Schedule& s) { s.signature[1].ordinal = 3; });
  expect_refused("at /signature/1/bytes", [](Schedule& s) { s.signature[1].bytes = -1; });
  expect_refused("at /signature/1/ranks", [](Schedule& s) { s.signature[1].ranks = 0; });
}

TEST(Schedule, RefusesWordsThatNoOneKnows) {
  EXPECT_THAT(error_of(sample_with("\"1.3\"", "\"1.0\"")), HasSubstr("at /version"));
  EXPECT_THAT(error_of(sample_with("\"flow\"", "\"magic\"")), HasSubstr("at /strategy"));
  EXPECT_THAT(error_of(sample_with("\"prefetch\"", "\"perhaps\"")), HasSubstr("at /verdict"));
}

const IssueMethod kSomeMethod{
    .name = "bulk_l2", .placement = "spare", .chunk_bytes = 4096, .ctas = 16};

TEST(Schedule, RefusesBrokenMethodsAndMeasurements) {
  expect_refused("at /device/ctas", [](Schedule& s) { s.method.ctas = -1; });
  expect_refused("at /device/eviction", [](Schedule& s) { s.method.eviction = "first"; });
  expect_refused("at /device/issue", [](Schedule& s) { s.method.issue = "during"; });
  expect_refused("at /method/ctas", [](Schedule& s) {
    s.plan.method = kSomeMethod;
    s.plan.method->ctas = 1 << 20;
  });
  expect_refused("at /candidates/0/method/name", [](Schedule& s) {
    s.candidates[0].method = kSomeMethod;
    s.candidates[0].method->name.clear();
  });
  expect_refused("at /candidates/0/method/chunk_bytes", [](Schedule& s) {
    s.candidates[0].method = kSomeMethod;
    s.candidates[0].method->chunk_bytes = -1;
  });
  expect_refused("at /candidates/0/measured/pairs", [](Schedule& s) {
    s.candidates[0].measured = {1.2, {}, {}, -3};
  });
  expect_refused("at /candidates/0/measured: low and high", [](Schedule& s) {
    s.candidates[0].measured = {1.2, 1.1, {}, 3};
  });
  expect_refused("at /measured: the speed-up 1.2", [](Schedule& s) {
    s.plan.measured = {1.2, 1.3, 1.4, 30};
  });
}

TEST(Schedule, APlansOwnMethodReplacesTheSchedules) {
  Schedule schedule = sample();
  schedule.method.name = "prefetch_l2";
  schedule.candidates[0].method = kSomeMethod;
  EXPECT_EQ(method_of(schedule, schedule.plan).name, "prefetch_l2");
  EXPECT_EQ(method_of(schedule, schedule.candidates[0]), kSomeMethod);
}

TEST(Schedule, RefusesForeignFiles) {
  EXPECT_THAT(error_of("{}"), HasSubstr("not a schedule"));
  EXPECT_THAT(error_of("[1,\n2"), testing::AllOf(HasSubstr("is not JSON"), HasSubstr("at line 2"),
                                                 testing::Not(HasSubstr("exception"))));
  EXPECT_THAT(error_of("{\"schema\": \"preserve/schedule\", \"version\": 1}"),
              HasSubstr("/version"));
  EXPECT_THAT(error_of("{\"schema\": \"preserve/schedule\", \"version\": \"1.1\"}"),
              HasSubstr("Missing required property"));
}

TEST(Schedule, BelongsToOneTrace) {
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "trace.db") << "one";
  std::ofstream(folder / "other.db") << "two";
  Schedule schedule = sample();
  schedule.trace_sha256 = sha256_of_file(folder / "trace.db");
  EXPECT_NO_THROW(require_same_trace(schedule, "schedule.json", folder / "trace.db"));
  EXPECT_THAT(
      [&] { require_same_trace(schedule, "schedule.json", folder / "other.db"); },
      testing::ThrowsMessage<Error>(testing::AllOf(
          HasSubstr(schedule.trace_sha256), HasSubstr(sha256_of_file(folder / "other.db")))));
}

RC_GTEST_PROP(ScheduleProperty, SurvivesTheFile, ()) {
  Schedule schedule = sample();
  schedule.trace_path = *rc::gen::string<std::string>();
  for (char& c : schedule.trace_path) c = static_cast<char>(c & 0x7f);  // JSON holds UTF-8 only
  schedule.seed = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 53);
  schedule.link_latency_ns = *rc::gen::inRange<int64_t>(0, int64_t{1} << 53);
  const auto method = [] {
    return IssueMethod{*rc::gen::element<std::string>("load", "bulk_l2"),
                       *rc::gen::element<std::string>("consumer", "spare"),
                       *rc::gen::inRange<int64_t>(0, 1 << 20),
                       *rc::gen::inRange<int64_t>(0, 200),
                       *rc::gen::element<std::string>("normal", "last"),
                       *rc::gen::element<std::string>("before", "after")};
  };
  schedule.method = method();
  if (*rc::gen::arbitrary<bool>()) schedule.candidates[0].method = method();
  Plan& plan = schedule.plan;
  if (*rc::gen::arbitrary<bool>()) {
    plan.measured = PlanMeasurement{*rc::gen::inRange(0, 1 << 30) / 1e6, {}, {}, 7};
    if (*rc::gen::arbitrary<bool>()) {
      plan.measured->low = plan.measured->speedup / 2;
      plan.measured->high = plan.measured->speedup * 2;
    }
  }
  plan.speedup = *rc::gen::inRange(0, 1 << 30) / 1e6;
  plan.windows.clear();
  const auto windows = *rc::gen::inRange(0, 6);
  for (int32_t w = 0; w < windows; ++w) {
    PlannedWindow window;
    window.ordinal = w;
    window.binds = *rc::gen::element<std::string>("window", "cache", "candidates", "none");
    window.shadow_price_ns_per_mib = *rc::gen::inRange(0, 1 << 30) / 1e3;
    const auto pieces = *rc::gen::inRange(0, 4);
    for (int64_t p = 0; p < pieces; ++p) {
      const auto length = *rc::gen::inRange<int64_t>(1, 1000);
      window.prefetches.push_back(prefetch("t", w, p * 1000, length));
      window.prefetches.back().predicted_saved_ns = *rc::gen::inRange(0, 1 << 30) / 7.0;
      window.prefetches.back().next_step = *rc::gen::arbitrary<bool>();
      window.used_bytes += length;
    }
    plan.windows.push_back(window);
  }
  const std::string text = to_json(schedule);
  RC_ASSERT(to_json(read(text)) == text);
}

}  // namespace
}  // namespace preserve
