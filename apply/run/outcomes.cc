// SPDX-License-Identifier: Apache-2.0
#include "apply/run/outcomes.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <tuple>

#include "common/error.h"
#include "common/stats.h"
#include "common/text.h"

namespace preserve::apply {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNullArm = "null";
constexpr double kConfidence = 0.95;  // of the library's confidence sequence

std::string read_outcome(const fs::path& path, Outcome& outcome) {
  std::error_code error;
  const auto size = static_cast<size_t>(fs::file_size(path, error));
  if (error) return error.message();
  outcome.bytes = std::make_unique<std::byte[]>(size);
  std::ifstream in(path, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(outcome.bytes.get()), static_cast<std::streamsize>(size))) {
    return "cannot be read";
  }
  const char* wrong = outcome.view.open({outcome.bytes.get(), size});
  return wrong == nullptr ? "" : wrong;
}

std::string ranks_text(const std::vector<int64_t>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

// --- result --------------------------------------------------------------------------------------

Estimated of_log_ratio(const Evidence& evidence) {
  Estimated found{std::exp(evidence.mean)};
  if (std::isfinite(evidence.low) && std::isfinite(evidence.high)) {
    found.low = std::exp(evidence.low);
    found.high = std::exp(evidence.high);
  }
  return found;
}

const char* arm_name(Arm arm) {
  return arm == Arm::original ? kBaselineArm : arm == Arm::applied ? kPrefetchArm : kNullArm;
}

// Of pairs of an original block with one of `arm`.
std::vector<double> ratios_of(Arm arm, const std::vector<Block>& blocks) {
  std::vector<double> ratios;
  for (size_t i = 1; i < blocks.size(); ++i) {
    const Block *original = &blocks[i - 1], *other = &blocks[i];
    if (original->pair != other->pair || !original->counted || !other->counted) continue;
    if (other->arm == Arm::original) std::swap(original, other);
    if (original->arm != Arm::original || other->arm != arm || other->step_ns <= 0) continue;
    ratios.push_back(static_cast<double>(original->step_ns) / static_cast<double>(other->step_ns));
  }
  return ratios;
}

ArmResult arm_result(Arm arm, const std::vector<Block>& blocks) {
  ArmResult result{.name = arm_name(arm)};
  std::vector<double> times_ns;
  for (const Block& block : blocks) {
    if (block.arm == arm && block.counted) times_ns.push_back(static_cast<double>(block.step_ns));
  }
  result.counted = static_cast<int64_t>(times_ns.size());
  result.step_ns = estimated_median(times_ns, kConfidence);
  return result;
}

ArmResult arm_result(Arm arm, const std::vector<Block>& blocks, const Evidence& evidence,
                     Mode mode) {
  ArmResult result = arm_result(arm, blocks);
  const std::vector<double> ratios =
      is_undecided(mode) ? ratios_of(arm, blocks) : std::vector<double>();
  if (!ratios.empty()) {
    result.pairs = static_cast<int64_t>(ratios.size());
    result.speedup = estimated_median(ratios, kConfidence);
  } else if (evidence.pairs > 0) {
    result.pairs = static_cast<int64_t>(evidence.pairs);
    result.speedup = of_log_ratio(evidence);
  }
  return result;
}

Verdict verdict_of(const OutcomeHeader& header, const std::optional<Estimated>& speedup) {
  // A program that leaves its loop at the end is searching again.
  if (header.off == Off::none && header.decided_ns != 0) return Verdict::fast;
  if (header.off == Off::slow) return Verdict::slow;
  if (header.off == Off::same) return Verdict::same;
  const std::optional<Interval> interval = speedup ? speedup->interval() : std::nullopt;
  return interval ? judge_speedup(*interval) : Verdict::ambiguous;
}

// Of arm applied, per step and rank. By window: the last step of a run is seldom a whole one.
double fetched_bytes(const Outcomes& outcomes) {
  double bytes = 0;
  const auto ranks = outcomes.ranks();
  for (const Outcome* rank : ranks) {
    for (const WindowOutcome& window : rank->view.windows()) {
      if (window.opened == 0) continue;
      bytes += static_cast<double>(window.fetched_bytes) / static_cast<double>(window.opened);
    }
  }
  return bytes / static_cast<double>(ranks.size());
}

// --- remarks -------------------------------------------------------------------------------------

void remark_on_loading(const Outcomes& outcomes, std::vector<std::string>& remarks) {
  if (outcomes.processes.empty()) {
    remarks.emplace_back(
        "no process loaded the library, so the program ran as it is. Usual reasons: it is linked "
        "statically; its environment was stripped on the way (sudo, env -i, a container, a remote "
        "host: LD_PRELOAD and PRESERVE_APPLY_PLAN must arrive, with Open MPI by mpirun -x "
        "LD_PRELOAD -x PRESERVE_APPLY_PLAN and a folder for temporary files that both hosts "
        "share)");
    return;
  }
  if (outcomes.ranks().empty()) {
    const bool other = std::ranges::any_of(outcomes.processes, [](const Outcome& process) {
      return process.view.header().off == Off::other_library;
    });
    if (other) {
      remarks.emplace_back(
          "the program's MPI library is not Open MPI and not of MPICH's kind, so the program ran "
          "as "
          "it is");
      return;
    }
    std::vector<std::string> names;
    for (const Outcome& process : outcomes.processes) {
      std::string name = printable(process.view.program(), 80);
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
    const auto count = static_cast<int64_t>(outcomes.processes.size());
    remarks.push_back(fmt::format(
        "{} {} loaded the library, but none called MPI_Init of a shared MPI library, so the "
        "program "
        "ran as it is: {} (a program that is linked statically, or starts without LD_PRELOAD, is "
        "not seen)",
        count, count == 1 ? "process" : "processes", fmt::join(names, ", ")));
    return;
  }
  std::vector<int64_t> missing;
  const auto ranks = outcomes.ranks();
  const uint32_t world = ranks.front()->view.header().ranks;
  for (int64_t rank = 0; rank < int64_t{world} && missing.size() < 10; ++rank) {
    const bool loaded = std::ranges::any_of(
        ranks, [&](const Outcome* outcome) { return outcome->view.header().rank == rank; });
    if (!loaded) missing.push_back(rank);
  }
  if (missing.empty()) return;
  remarks.push_back(fmt::format(
      "{} of {} ranks left no outcome here (first {}): they run on other hosts, or did not load "
      "the library",
      world - std::min<size_t>(world, ranks.size()), world, ranks_text(missing)));
}

void remark_on_off(const Outcomes& outcomes, const Schedule& schedule,
                   std::vector<std::string>& remarks) {
  std::map<std::pair<Off, std::string>, std::vector<int64_t>> reasons;
  std::vector<int64_t> searching;
  for (const Outcome* rank : outcomes.ranks()) {
    const OutcomeHeader& header = rank->view.header();
    if (header.state == State::off) {
      std::string detail;
      if (header.off == Off::rank_count) {
        detail = fmt::format(" ({} instead of {})", header.ranks, schedule.ranks);
      } else if (header.off == Off::other_library || header.off == Off::no_progress) {
        detail = fmt::format(" ({})", printable(rank->view.library(), 100));
      }
      reasons[{header.off, detail}].push_back(header.rank);
    }
    if (header.off == Off::none && header.locks == 0) searching.push_back(header.rank);
  }
  for (const auto& [reason, ranks] : reasons) {
    remarks.push_back(fmt::format("off on {}: {}{}", ranks_text(ranks),
                                  kOffNames[static_cast<size_t>(reason.first)], reason.second));
  }
  if (searching.empty()) return;
  remarks.push_back(
      fmt::format("{} ended without recognising the step of the schedule ({} collectives): the "
                  "program must run "
                  "as it was recorded, with the same model, batch and number of ranks",
                  ranks_text(searching), schedule.signature.size()));
}

void remark_on_surprises(const Outcomes& outcomes, std::vector<std::string>& remarks) {
  std::vector<std::string> counts;
  for (size_t kind = 0; kind < static_cast<size_t>(Surprise::count); ++kind) {
    uint64_t most = 0;
    for (const Outcome* rank : outcomes.ranks()) {
      most = std::max(most, rank->view.header().surprises[kind]);
    }
    if (most > 0) counts.push_back(fmt::format("{} {}", most, kSurpriseNames[kind]));
  }
  if (counts.empty()) return;
  remarks.push_back(fmt::format(
      "the step was lost from sight and searched for again, the collective after it being: {}",
      fmt::join(counts, ", ")));
}

void remark_on_tensors(const Outcomes& outcomes, const std::vector<std::string>& names,
                       std::vector<std::string>& remarks) {
  for (const Outcome* rank : outcomes.ranks()) {
    std::map<TensorState, std::vector<std::string>> by_state;
    const auto tensors = rank->view.tensors();
    for (size_t i = 0; i < std::min(tensors.size(), names.size()); ++i) {
      if (tensors[i].state != TensorState::found) {
        by_state[tensors[i].state].push_back(printable(names[i], 60));
      }
    }
    for (const auto& [state, missing] : by_state) {
      if (rank->view.header().locks == 0) continue;  // they are looked up then
      remarks.push_back(fmt::format("rank {}: {} {}, {} the first", rank->view.header().rank,
                                    count_of(static_cast<int64_t>(missing.size()), "tensor"),
                                    kTensorStateNames[static_cast<size_t>(state)],
                                    missing.front()));
    }
  }
}

}  // namespace

std::vector<const Outcome*> Outcomes::ranks() const {
  std::vector<const Outcome*> found;
  for (const Outcome& process : processes) {
    if (process.is_rank()) found.push_back(&process);
  }
  return found;
}

const Outcome* Outcomes::deciding() const {
  const auto all = ranks();
  const auto found = std::ranges::find_if(
      all, [](const Outcome* rank) { return rank->view.header().followed == 0; });
  return found == all.end() ? (all.empty() ? nullptr : all.front()) : *found;
}

Outcomes read_outcomes(const fs::path& folder) {
  Outcomes outcomes;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".outcome") continue;
    Outcome outcome;
    const std::string wrong = read_outcome(entry.path(), outcome);
    if (wrong.empty()) {
      outcomes.processes.push_back(std::move(outcome));
    } else {
      outcomes.damaged.push_back(fmt::format("an outcome is lost: {}: {}",
                                             printable(entry.path().filename().string()), wrong));
    }
  }
  const auto key = [](const Outcome& outcome) {
    const OutcomeHeader& header = outcome.view.header();
    return std::tuple(!outcome.is_rank(), header.rank, header.pid);
  };
  std::ranges::sort(outcomes.processes, {}, key);
  return outcomes;
}

std::vector<Block> blocks_of(const Outcomes& outcomes) {
  struct Step {
    Arm arm = Arm::original;
    uint64_t dur_ns = 0;
    bool counted = true;
    size_t ranks = 0;
    bool settles = false;  // the step before ran in another arm, or was lost from sight
  };
  std::map<uint32_t, Step> steps;
  const auto ranks = outcomes.ranks();
  for (const Outcome* rank : ranks) {
    for (const StepSample& sample : rank->view.samples()) {
      Step& step = steps[sample.step];
      const bool agrees = step.ranks == 0 || step.arm == sample.arm;
      step.arm = sample.arm;
      step.dur_ns = std::max(step.dur_ns, sample.dur_ns);
      step.counted = step.counted && agrees && (rank != outcomes.deciding() || sample.counted != 0);
      ++step.ranks;
    }
  }
  for (auto step = steps.begin(); step != steps.end(); ++step) {
    const auto before = step == steps.begin() ? step : std::prev(step);
    step->second.settles = before == step || before->first + 1 != step->first ||
                           before->second.arm != step->second.arm;
  }
  std::map<int64_t, std::vector<const Step*>> blocks;
  for (const auto& [number, step] : steps) {
    if (step.ranks == ranks.size()) blocks[int64_t{number} / kBlockSteps].push_back(&step);
  }
  std::vector<Block> found;
  for (const auto& [number, members] : blocks) {
    if (static_cast<int64_t>(members.size()) != kBlockSteps) continue;
    Block block{.arm = members.front()->arm,
                .pair = number / kPairBlocks,
                .position = number % kPairBlocks,
                .counted = true};
    uint64_t total_ns = 0;
    int64_t timed = 0;
    for (const Step* step : members) {
      if (!step->settles) total_ns += step->dur_ns, ++timed;
      block.counted = block.counted && step->counted && step->arm == block.arm;
    }
    block.step_ns = static_cast<int64_t>(total_ns) / std::max<int64_t>(timed, 1);
    found.push_back(block);
  }
  return found;
}

ReplayResult result_of(const Outcomes& outcomes, const std::vector<Block>& blocks,
                       const Schedule& schedule, int64_t planned_bytes, Mode mode) {
  const Outcome* deciding = outcomes.deciding();
  if (deciding == nullptr) throw internal_error("a result without a rank");
  const OutcomeHeader& header = deciding->view.header();
  ReplayResult result;
  result.arms = {arm_result(Arm::original, blocks),
                 arm_result(Arm::applied, blocks, header.applied, mode),
                 arm_result(Arm::null, blocks, header.null, mode)};
  ArmResult& applied = result.arms[1];
  applied.issued_bytes = fetched_bytes(outcomes);
  result.passes = std::max(result.arms[1].pairs, result.arms[2].pairs);
  result.steps_per_sample = kBlockSteps;
  result.confidence_level = kConfidence;
  result.stop_reason = "program ended";
  result.verdict = verdict_of(header, applied.speedup);
  result.ranks = static_cast<int64_t>(header.ranks);
  result.recorded_ranks = schedule.ranks;
  result.link_latency_ns = schedule.link_latency_ns;
  result.planned_bytes = planned_bytes;
  result.recorded_step_ns = schedule.plan.baseline_step_ns;
  const std::optional<Estimated>& original_ns = result.arms[0].step_ns;
  if (original_ns && result.recorded_step_ns > 0) {
    result.fidelity = original_ns->estimate / static_cast<double>(result.recorded_step_ns);
  }
  result.predicted_speedup = schedule.plan.speedup;
  result.predicted_baseline_step_ns = schedule.plan.baseline_step_ns;
  result.predicted_prefetch_step_ns = schedule.plan.prefetch_step_ns;
  double predicted_saved_ns = 0;
  for (const PlannedWindow& window : schedule.plan.windows) {
    for (const PlannedPrefetch& slice : window.prefetches) {
      predicted_saved_ns += slice.predicted_saved_ns;
    }
  }
  result.predicted_saved_ns = std::llround(predicted_saved_ns);
  if (applied.speedup && applied.speedup->interval()) {
    result.prediction_error = result.predicted_speedup / applied.speedup->estimate - 1;
  }
  if (original_ns && applied.speedup) {
    const double applied_ns = original_ns->estimate / applied.speedup->estimate;
    result.realised_saved_ns = std::llround(original_ns->estimate - applied_ns);
  }
  return result;
}

std::vector<std::string> remarks_on(const Outcomes& outcomes, const Schedule& schedule,
                                    const std::vector<std::string>& tensor_names) {
  std::vector<std::string> remarks = outcomes.damaged;
  remark_on_loading(outcomes, remarks);
  remark_on_off(outcomes, schedule, remarks);
  remark_on_surprises(outcomes, remarks);
  remark_on_tensors(outcomes, tensor_names, remarks);
  return remarks;
}

}  // namespace preserve::apply
