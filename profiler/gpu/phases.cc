// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/phases.h"

#include <array>
#include <map>
#include <string>
#include <vector>

namespace preserve::gpu {
namespace {

// Over lower-cased kernel names. FlashAttention's split-KV, paged and masked kernels serve one
// query token per sequence; the plain forward kernel and "context", "ragged", "extend" ones serve
// many.
constexpr std::array kDecodeGlobs{
    "*splitkv*",    "*decode*",  "*paged_attention*", "*masked_multihead*",     "*forgen*",
    "*generation*", "*mla_fwd*", "*flash_mla*",       "*unified_attention_3d*", "*gqa_decode*"};
constexpr std::array kPrefillGlobs{"*prefill*",     "*flash_fwd_kernel*", "*forctx*",
                                   "*context*",     "*ragged*",           "*extend_attention*",
                                   "*_fwd_kernel*", "*fmha_cutlassf*",    "*fmha*fprop*",
                                   "*fmha_fwd*",    "*flash*fwd*sm90*"};

template <size_t N>
bool any_glob(const TraceDb& db, const std::array<const char*, N>& globs, const std::string& name) {
  for (const char* glob : globs) {
    if (db.query_integer("SELECT lower(?) GLOB ?", {name, std::string(glob)}).value_or(0) != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

PhaseSummary tell_phases(TraceDb& db) {
  // +1 decode, -1 prefill, for each kernel name that ran in a step of unknown phase.
  std::map<int64_t, int> verdict_of_name;
  {
    std::vector<std::pair<int64_t, std::string>> names;
    Query rows = db.query(
        "SELECT id, value FROM string WHERE id IN (SELECT DISTINCT name_id FROM op) AND "
        "(value LIKE '%attention%' OR value LIKE '%fmha%' OR value LIKE '%flash%' OR "
        " value LIKE '%mla%' OR value LIKE '%multihead%' OR value LIKE '%pagedkv%' OR "
        " value LIKE '%raggedkv%' OR value LIKE '%_fwd_kernel%' OR value LIKE '%gqa%')");
    while (rows.next()) names.emplace_back(rows.integer(0), std::string(rows.text(1)));
    for (const auto& [id, name] : names) {
      if (any_glob(db, kDecodeGlobs, name)) {
        verdict_of_name[id] = 1;
      } else if (any_glob(db, kPrefillGlobs, name)) {
        verdict_of_name[id] = -1;
      }
    }
  }
  std::map<int64_t, int64_t> score;  // step -> ns of decode attention minus ns of prefill attention
  if (!verdict_of_name.empty()) {
    Query rows = db.query(
        "SELECT op.step_id, op.name_id, SUM(op.end_ns - op.start_ns) FROM op "
        "JOIN step ON step.id = op.step_id WHERE step.phase = 'unknown' GROUP BY 1, 2");
    while (rows.next()) {
      const auto verdict = verdict_of_name.find(rows.integer(1));
      if (verdict != verdict_of_name.end()) {
        score[rows.integer(0)] += verdict->second * rows.integer(2);
      }
    }
  }
  for (const auto& [step, nanoseconds] : score) {
    if (nanoseconds == 0) continue;
    db.execute("UPDATE step SET phase = ? WHERE id = ?",
               {std::string(nanoseconds > 0 ? "decode" : "prefill"), step});
  }
  PhaseSummary summary;
  Query rows = db.query("SELECT phase, COUNT(*) FROM step GROUP BY phase");
  while (rows.next()) {
    (rows.text(0) == "decode"    ? summary.decode
     : rows.text(0) == "prefill" ? summary.prefill
                                 : summary.unknown) = rows.integer(1);
  }
  return summary;
}

}  // namespace preserve::gpu
