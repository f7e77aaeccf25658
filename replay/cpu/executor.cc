// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/executor.h"

#include <algorithm>
#include <map>

#include "common/error.h"
#include "common/rounded_up.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/cpu/core_use.h"
#include "replay/cpu/fetch_method.h"
#include "replay/ranks/spin.h"

namespace preserve {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int kPadRounds = 2;  // the second sees the ranks' real overlap
constexpr int kStepsPerPadRound = 7;

// Reads start at a whole word, as the program's did.
constexpr int64_t kWordBytes = 4;

int64_t tensors_bytes(const StepProgram& program) {
  int64_t bytes = 0;
  for (const ProgramTensor& tensor : program.tensors) {
    bytes = checked_add(bytes, rounded_up(tensor.bytes, kPageBytes), "size of all tensors");
  }
  return bytes;
}

int64_t scratch_bytes(const std::vector<ReplayArm>& arms) {
  int64_t bytes = 0;
  for (const ReplayArm& arm : arms) {
    if (arm.kind != ArmKind::useless) continue;
    for (const ArmWindow& window : arm.windows) {
      for (const TensorSlice& slice : window.slices) bytes += rounded_up(slice.bytes, kPageBytes);
    }
  }
  return bytes;
}

// The slice as reads of a block that holds the same content at the same position.
void add_hot(const TensorMemory& hot, const FetchSlice& slice, int64_t position,
             std::vector<FetchSlice>& out) {
  int64_t left = slice.bytes;
  while (left > 0) {
    const int64_t at = position % hot.bytes();
    const int64_t bytes = std::min(left, hot.bytes() - at);
    out.push_back({hot.data() + at, bytes});
    position += bytes;
    left -= bytes;
  }
}

}  // namespace

int64_t executor_memory_bytes(const StepProgram& program, const std::vector<ReplayArm>& arms,
                              const CpuExecutorOptions& options) {
  int64_t bytes = checked_add(tensors_bytes(program), scratch_bytes(arms), "memory of a rank");
  for (const ProgramOp& op : program.ops) {
    if (op.collective) {
      bytes = checked_add(bytes, checked_mul(2, op.collective->bytes.value_or(0), "collective"),
                          "memory of a rank");
    }
  }
  return bytes + options.hot_block_bytes;
}

CpuExecutor::CpuExecutor(const Ranks& ranks, StepProgram program,
                         const std::vector<ReplayArm>& arms, const CpuExecutorOptions& options)
    : RankExecutor(ranks, std::move(program), arms),
      options_(options),
      memory_(tensors_bytes(this->program()), options.pages),
      hot_(options.hot_block_bytes / kPatternBytes * kPatternBytes, options.pages),
      scratch_(scratch_bytes(arms), options.pages),
      own_(find_fetch_method("load"), kPageBytes, std::nullopt) {
  if (hot_.bytes() == 0) throw internal_error("hot block of {} bytes", options.hot_block_bytes);
  bind_program();
  int64_t scratch_at = 0;
  for (const ReplayArm& arm : arms) bind_arm(arm, scratch_at);
  current_.resize(ops_.size());
  kernel_ns_.resize(ops_.size());
  calibrate_pads();
}

void CpuExecutor::bind_program() {
  int64_t at = 0;
  for (const ProgramTensor& tensor : program().tensors) {
    tensor_at_.push_back(at);
    at += rounded_up(tensor.bytes, kPageBytes);
  }
  std::map<std::pair<std::string, int64_t>, int> collectives;  // buffers are shared by equal calls
  for (const ProgramOp& op : program().ops) {
    BoundOp bound;
    bound.gap_ns = op.gap_ns;
    const auto bind = [&](const std::vector<TensorSlice>& slices, std::vector<FetchSlice>& cold,
                          std::vector<FetchSlice>& hot) {
      for (const TensorSlice& slice : slices) {
        const int64_t begin = slice.offset_bytes / kWordBytes * kWordBytes;
        const FetchSlice bytes{memory_.data() + tensor_at_[slice.tensor] + begin, slice.bytes};
        cold.push_back(bytes);
        add_hot(hot_, bytes, tensor_at_[slice.tensor] + begin, hot);
      }
    };
    bind(op.weights, bound.weights, bound.hot_weights);
    bind(op.reads, bound.reads, bound.hot_reads);
    bound.writes = op.writes;
    if (op.collective) {
      const int64_t bytes = op.collective->bytes.value_or(0);
      const auto [entry, added] = collectives.try_emplace({op.collective->function, bytes},
                                                          static_cast<int>(collectives_.size()));
      if (added) collectives_.push_back(ranks().collective(op.collective->function, bytes));
      bound.collective = entry->second;
    }
    ops_.push_back(std::move(bound));
  }
}

void CpuExecutor::bind_arm(const ReplayArm& arm, int64_t& scratch_at) {
  BoundArm& way = arms_.emplace_back();
  way.kind = arm.kind;
  way.fetch = find_fetch_method(arm.planned_bytes > 0 ? arm.method.name : "load");
  way.chunk_bytes = std::max<int64_t>(arm.method.chunk_bytes, kCacheLineBytes);
  way.on_spare_core = options_.spare_cpu && arm.method.placement == "spare";
  way.begin = arm.method.issue == "before" ? FetchBegin::before_start : FetchBegin::after_start;
  if (way.on_spare_core && !spare_) spare_.emplace(way.fetch, way.chunk_bytes, options_.spare_cpu);
  way.windows.resize(ops_.size());
  for (const ArmWindow& window : arm.windows) {
    BoundWindow& bound = way.windows[window.ordinal];
    bound.active = true;
    way.fetches_in_turns = way.fetches_in_turns || takes_turns(way, window.ordinal);
    for (const TensorSlice& slice : window.slices) {
      if (arm.kind == ArmKind::useless) {
        bound.slices.push_back({scratch_.data() + scratch_at, slice.bytes});
        scratch_at += rounded_up(slice.bytes, kPageBytes);
      } else {
        bound.slices.push_back(
            {memory_.data() + tensor_at_[slice.tensor] + slice.offset_bytes, slice.bytes});
      }
    }
  }
}

bool CpuExecutor::takes_turns(const BoundArm& arm, int32_t ordinal) const {
  return options_.via == WindowVia::progress && !arm.on_spare_core &&
         ops_[static_cast<size_t>(ordinal)].collective >= 0;
}

void CpuExecutor::calibrate_pads() {
  for (int round = 0; round < kPadRounds; ++round) {
    std::vector<std::vector<double>> kernel_ns(ops_.size());
    for (int step = 0; step < kStepsPerPadRound; ++step) {
      ranks().barrier();
      run_step(0);
      if (step == 0) continue;  // cold: first touch of instructions and TLB
      for (size_t i = 0; i < ops_.size(); ++i) {
        kernel_ns[i].push_back(static_cast<double>(kernel_ns_[i]));
      }
    }
    for (size_t i = 0; i < ops_.size(); ++i) {
      // A collective lasts as long as it lasts here; all else fills up to what was recorded.
      const bool real = ops_[i].collective >= 0;
      const auto measured_ns = static_cast<int64_t>(median(kernel_ns[i]));
      ops_[i].pad_ns = real ? 0 : std::max<int64_t>(0, program().ops[i].dur_ns - measured_ns);
    }
  }
}

void CpuExecutor::consume(const BoundOp& op, bool hot) {
  for (const FetchSlice& slice : hot ? op.hot_weights : op.weights) {
    checksum_ += consumer_.read_weights(slice.begin, slice.bytes);
  }
  for (const FetchSlice& slice : hot ? op.hot_reads : op.reads) {
    checksum_ += Consumer::read_stream(slice.begin, slice.bytes);
  }
  for (const TensorSlice& slice : op.writes) {
    Consumer::write(
        memory_.data() + tensor_at_[slice.tensor] + slice.offset_bytes / kWordBytes * kWordBytes,
        slice.bytes);
  }
}

int64_t CpuExecutor::communicate(const BoundOp& op, const BoundArm& arm,
                                 const BoundWindow& window) {
  RankCollective& collective = *collectives_[op.collective];
  if (window.active) {
    return run_window(collective, fetcher_of(arm), window.slices, options_.link_latency_ns,
                      options_.via, arm.begin);
  }
  collective.run();
  if (options_.link_latency_ns > 0) spin_until(monotonic_ns() + options_.link_latency_ns);
  return 0;
}

WindowFetcher& CpuExecutor::fetcher_of(const BoundArm& arm) {
  return arm.on_spare_core ? *spare_ : own_;
}

int64_t CpuExecutor::run_step(size_t index) {
  const BoundArm& arm = arms_[index];
  const bool hot = arm.kind == ArmKind::hot;
  const std::vector<BoundWindow>& windows = arm.windows;
  fetcher_of(arm).use(arm.fetch, arm.chunk_bytes);
  int64_t fetched = 0;
  int64_t previous_ns = monotonic_ns();
  for (size_t i = 0; i < ops_.size(); ++i) {
    const BoundOp& op = ops_[i];
    if (op.gap_ns > 0) spin_until(previous_ns + op.gap_ns);
    const int64_t start_ns = monotonic_ns();
    consume(op, hot);
    if (op.collective >= 0) fetched += communicate(op, arm, windows[i]);
    int64_t end_ns = monotonic_ns();
    kernel_ns_[i] = end_ns - start_ns;
    if (op.pad_ns > 0) {
      if (windows[i].active && op.collective < 0) {
        fetched += run_idle_window(fetcher_of(arm), windows[i].slices, end_ns + op.pad_ns);
      } else {
        spin_until(end_ns + op.pad_ns);
      }
      end_ns = monotonic_ns();
    }
    current_[i] = {start_ns, end_ns};
    previous_ns = end_ns;
  }
  spin_until(previous_ns + program().tail_ns);
  return fetched;
}

ArmSample CpuExecutor::do_run(size_t arm, int steps) {
  std::vector<float> op_ns(ops_.size(), 0.0F);
  int64_t fetched = 0;
  // Not for the other arms: they would pay for its turns.
  std::optional<ProgressTurns> turns;
  if (arms_[arm].fetches_in_turns) turns.emplace(find_progress_engine());
  ranks().barrier();
  run_step(arm);  // what the arm before left in the cache is gone after it
  checksum_ = 0;
  ranks().barrier();
  const CoreUse before = core_use();
  int64_t timed_ns = 0;
  for (int step = 0; step < steps; ++step) {
    const int64_t start_ns = monotonic_ns();
    fetched += run_step(arm);
    timed_ns += monotonic_ns() - start_ns;
    for (size_t i = 0; i < ops_.size(); ++i) {
      op_ns[i] +=
          static_cast<float>(current_[i].end_ns - current_[i].start_ns) / static_cast<float>(steps);
    }
  }
  const bool lost = lost_core(before, core_use());
  ArmSample sample;
  sample.interrupted = ranks().max(lost ? 1 : 0) > 0;
  sample.step_ns = ranks().max(timed_ns / steps);
  sample.probe_ns = ranks().max(clock_probe_ns());
  const auto per_step = static_cast<int64_t>(checksum_ / static_cast<uint64_t>(steps));
  sample.checksum = static_cast<uint64_t>(ranks().sum(per_step));
  std::vector<OpInterval> last = current_;
  // The hot arm leaves the tensors untouched, and a large cache keeps a part of them from step to
  // step: the arm after it would start with less of that than the others do.
  if (arms_[arm].kind == ArmKind::hot) run_step(0);
  remember(arm, std::move(op_ns), fetched / steps, std::move(last));
  return sample;
}

}  // namespace preserve
