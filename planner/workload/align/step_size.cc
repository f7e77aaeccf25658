// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/step_size.h"

#include <map>

#include "db/step/stated_tokens.h"

namespace preserve::align {
namespace {

constexpr int64_t kHalfBytes = 2;  // activations

// The most frequent value; nothing when there is none.
class Vote {
 public:
  void add(int64_t value) { ++votes_[value]; }
  std::optional<int64_t> winner() const {
    std::optional<int64_t> best;
    int64_t most = 0;
    for (const auto& [value, votes] : votes_) {
      if (votes > most) {
        most = votes;
        best = value;
      }
    }
    return best;
  }

 private:
  std::map<int64_t, int64_t> votes_;
};

std::optional<int64_t> ranks_of(const FoldedStep& step) {
  Vote vote;
  bool communicates = false;
  for (const StepOp& op : step.ops) {
    if (op.kind != OpKind::collective) continue;
    communicates = true;
    if (op.collective && op.collective->ranks) vote.add(*op.collective->ranks);
  }
  if (const std::optional<int64_t> ranks = vote.winner()) return ranks;
  if (!communicates) return 1;
  if (step.world_size > 1) return step.world_size;
  return std::nullopt;
}

std::optional<int64_t> annotated_tokens(const TraceDb& db, const FoldedStep& step) {
  Vote vote;
  Query rows = db.query(
      "SELECT string.value FROM range JOIN stream ON stream.id = range.stream_id "
      "JOIN string ON string.id = range.name_id WHERE stream.process_id = ? AND range.kind <> "
      "'mark' AND (string.value LIKE '%bs=%' OR string.value LIKE '%generation%' OR string.value "
      "LIKE '%toks=%' OR string.value LIKE '% gen%')",
      {step.process.value});
  while (rows.next()) {
    if (const auto tokens = stated_tokens(rows.text(0), step.phase)) vote.add(*tokens);
  }
  return vote.winner();
}

}  // namespace

StepSize recorded_size(const TraceDb& db, const FoldedStep& step, int64_t hidden) {
  StepSize size;
  size.ranks = ranks_of(step);
  Vote shapes, messages;
  for (const StepOp& op : step.ops) {
    if (op.gemm) shapes.add(op.gemm->m);
    const int64_t token_bytes = hidden * kHalfBytes;
    if (op.collective && op.collective->function == "allreduce" && op.collective->bytes &&
        *op.collective->bytes > 0 && *op.collective->bytes % token_bytes == 0) {
      messages.add(*op.collective->bytes / token_bytes);
    }
  }
  if ((size.tokens = shapes.winner())) {
    size.tokens_from = "recorded shapes";
  } else if ((size.tokens = annotated_tokens(db, step))) {
    size.tokens_from = "the step's annotation";
  } else if ((size.tokens = messages.winner())) {
    size.tokens_from = "the messages of the allreduces";
  }
  if (size.tokens && (*size.tokens < 1 || *size.tokens > kMostStepTokens)) size.tokens.reset();
  return size;
}

}  // namespace preserve::align
