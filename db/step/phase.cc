// SPDX-License-Identifier: Apache-2.0
#include "db/step/phase.h"

#include <algorithm>
#include <array>
#include <map>

#include "common/error.h"
#include "common/glob.h"
#include "common/text.h"
#include "db/step/steps.h"

namespace preserve {
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
// What every attention kernel has in its name.
constexpr std::array kAttentionGlobs{"*attention*", "*fmha*",        "*flash*",
                                     "*mla*",       "*multihead*",   "*pagedkv*",
                                     "*raggedkv*",  "*_fwd_kernel*", "*gqa*"};

template <size_t N>
bool any_matches(const std::array<const char*, N>& globs, std::string_view name) {
  return std::ranges::any_of(globs, [&](const char* glob) { return glob_matches(glob, name); });
}

// The most frequent name of a range that says `phase`; empty when none does.
std::string annotation_of(const TraceDb& db, const FoldedStep& step) {
  Query rows = db.query(
      "SELECT string.value FROM range JOIN stream ON stream.id = range.stream_id "
      "JOIN string ON string.id = range.name_id WHERE stream.process_id = ? AND range.kind <> "
      "'mark' GROUP BY range.name_id ORDER BY COUNT(*) DESC, range.name_id",
      {step.process.value});
  while (rows.next()) {
    std::string name(rows.text(0));
    if (annotated_phase(db, name) == step.phase) return name;
  }
  return "";
}

}  // namespace

StepPhase phase_of_kernel(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (!any_matches(kAttentionGlobs, lower)) return StepPhase::unknown;
  if (any_matches(kDecodeGlobs, lower)) return StepPhase::decode;
  return any_matches(kPrefillGlobs, lower) ? StepPhase::prefill : StepPhase::unknown;
}

std::string phase_reason(const TraceDb& db, const FoldedStep& step) {
  if (step.phase == StepPhase::unknown) {
    return "neither a range nor an attention kernel says its phase; it is taken for decode";
  }
  if (step.source == "nvtx") {
    if (const std::string name = annotation_of(db, step); !name.empty()) {
      return "its range is named " + printable(name, 80);
    }
  }
  std::map<std::string, double> time_ns;  // of the kernels that say its phase
  double sum_ns = 0, agreeing_ns = 0;
  for (const StepOp& op : step.ops) {
    const StepPhase phase = phase_of_kernel(op.name);
    if (phase == StepPhase::unknown) continue;
    sum_ns += op.dur_ns;
    if (phase != step.phase) continue;
    agreeing_ns += op.dur_ns;
    time_ns[op.name] += op.dur_ns;
  }
  if (time_ns.empty()) return "the recording says so";
  const auto longest = std::ranges::max_element(
      time_ns, [](const auto& a, const auto& b) { return a.second < b.second; });
  return fmt::format("{:.0f} % of its attention time are kernels such as {}",
                     100 * agreeing_ns / sum_ns, printable(longest->first, 80));
}

}  // namespace preserve
