// SPDX-License-Identifier: Apache-2.0
// What the compiled rules accept the validator accepts too, whatever was changed in a document.
#include "planner/schedule/json_rules.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>
#include <vector>

namespace preserve {

extern const std::string_view kScheduleSchema;

namespace {

using nlohmann::json;

bool valid(const json& document, const json& schema_document) {
  using Adapter = valijson::adapters::NlohmannJsonAdapter;
  valijson::Schema schema;
  valijson::SchemaParser().populateSchema(Adapter(schema_document), schema);
  return valijson::Validator().validate(schema, Adapter(document), nullptr);
}

// Nearly every keyword, and every member of a schedule, which a long one repeats.
json sample() {
  return json::parse(R"({
    "schema": "preserve/schedule", "version": "1.3",
    "trace": {"path": "trace.db", "sha256": "", "rank": 0, "ranks": 2, "step_ops": 9, "phase": "prefill"},
    "device": {"name": "box", "method": "load", "placement": "spare", "chunk_bytes": 0, "ctas": 0,
               "eviction": "normal", "issue": "after"},
    "budget_bytes": 1000, "link_latency_ns": 0, "windows_mode": "collective", "seed": 1,
    "signature": [{"ordinal": 3, "function": "allreduce", "blocking": true, "type": "MPI_FLOAT",
                   "messages": false, "bytes": 40, "ranks": 2}],
    "strategy": "flow", "verdict": "prefetch", "reasons": ["because"],
    "predicted": {"baseline_step_ns": 9, "prefetch_step_ns": 8, "speedup": 1.125, "objective_ns": 1},
    "cache": {"peak_bytes": 10, "shadow_price_ns_per_mib": 0.5},
    "windows": [{"ordinal": 3, "name": "all", "path": "0/collective/all", "occurrence": 0,
                 "usable_ns": 5, "capacity_bytes": 50, "used_bytes": 10,
                 "shadow_price_ns_per_mib": 0, "binds": "window",
                 "prefetches": [{"tensor": "w", "consumer_ordinal": 4, "consumer": "op",
                                 "consumer_path": "1/compute/op", "consumer_occurrence": 2,
                                 "offset_bytes": 0, "length_bytes": 10,
                                 "predicted_saved_ns": 1.5, "next_step": false}]}],
    "method": {"name": "load", "placement": "spare", "chunk_bytes": 1, "ctas": 1,
               "eviction": "last", "issue": "before"},
    "measured": {"speedup": 1.1, "low": 1, "high": 1.2, "pairs": 40},
    "bounds": {"all_hot_step_ns": 5, "window_limited_step_ns": 6, "cache_limited_step_ns": 7},
    "warnings": [], "candidates": []
  })");
}

// Other values, at the edges of what any member may be.
const std::vector<json>& others() {
  static const std::vector<json> values{nullptr,
                                        true,
                                        -1,
                                        0,
                                        1,
                                        4503599627370497.0,
                                        9007199254740991,
                                        9007199254740992,
                                        18446744073709551615u,
                                        65537,
                                        2147483648,
                                        0.5,
                                        -0.5,
                                        1e9,
                                        1e19,
                                        "",
                                        "spare",
                                        "1.10",
                                        "2.1",
                                        "7/op/",
                                        "/op/",
                                        std::string("\0a", 2),
                                        "\xC3\xA9",
                                        json::array(),
                                        json::object(),
                                        json::array({1}),
                                        json::object({{"ordinal", 1}}),
                                        json::array({json::object()})};
  return values;
}

void change_one(json& document) {
  std::vector<json::json_pointer> places;
  const json flat = document.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    for (json::json_pointer at(pointer); !at.empty(); at = at.parent_pointer())
      places.push_back(at);
  }
  const json::json_pointer at = *rc::gen::elementOf(places);
  json& parent = document.at(at.parent_pointer());
  if (*rc::gen::inRange(0, 4) > 0) {
    document.at(at) = *rc::gen::elementOf(others());
  } else if (parent.is_object()) {
    parent.erase(at.back());
  } else {
    parent.erase(static_cast<size_t>(std::stoul(at.back())));
  }
}

TEST(JsonRules, AcceptASchedule) {
  EXPECT_TRUE(JsonRules(json::parse(kScheduleSchema)).accepts(sample()));
}

RC_GTEST_PROP(JsonRules, AcceptNothingThatTheValidatorRefuses, ()) {
  static const json schema = json::parse(kScheduleSchema);
  static const JsonRules rules(schema);
  json document = sample();
  const int changes = *rc::gen::inRange(1, 3);
  for (int i = 0; i < changes && !document.empty(); ++i) change_one(document);
  const bool accepted = rules.accepts(document);
  RC_TAG(accepted);
  if (accepted) RC_ASSERT(valid(document, schema));
}

// Keywords that the schema of a schedule does not use, that of a device does.
TEST(JsonRules, BoundArraysAndNumbersAsTheValidatorDoes) {
  const json schema = json::parse(R"({"properties": {
    "a": {"type": "array", "minItems": 1, "maxItems": 2},
    "n": {"type": "number", "exclusiveMinimum": 0}}})");
  const JsonRules rules(schema);
  for (const char* text : {R"({"a": []})", R"({"a": [1]})", R"({"a": [1, 2]})",
                           R"({"a": [1, 2, 3]})", R"({"a": 1})", R"({"n": 0})", R"({"n": 0.0})",
                           R"({"n": -1})", R"({"n": 1e-9})", R"({"n": 7})", R"({"n": "7"})"}) {
    const json document = json::parse(text);
    EXPECT_EQ(rules.accepts(document), valid(document, schema)) << text;
  }
}

TEST(JsonRules, LeaveUnknownKeywordsToTheValidator) {
  EXPECT_TRUE(JsonRules(json::parse(R"({"items": {"minLength": 1}})")).accepts({"a"}));
  for (const char* schema :
       {R"({"items": {"minLength": 1, "maxLength": 3}})", R"({"items": {"enum": ["a", null]}})",
        R"({"additionalProperties": false})",
        R"({"definitions": {}, "properties": {"a": {"not": {}}}})"}) {
    EXPECT_FALSE(JsonRules(json::parse(schema)).accepts({"a"})) << schema;
  }
}

}  // namespace
}  // namespace preserve
