// SPDX-License-Identifier: Apache-2.0
// The last joins of ProcessBuilder: activities in order of stream and start become operators, those
// whose operands are worth naming are passed on, and all become rows of op, collective and counter.
#include <algorithm>
#include <deque>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "profiler/gpu/activity_rows.h"
#include "profiler/gpu/operand_bytes.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {
namespace {

// A stream runs one operator after another, up to the microseconds by which a dependent launch
// starts early. One that holds whole successors has a wrong end, or its stream is none: branches of
// a graph may have one number. So it counts how long the operator is, how many it holds, and
// whether others of its name are as long.
struct Impossible {
  int64_t least_ns;
  int whole_successors;
  int64_t times_shortest;  // of the same name
  bool in_graphs;          // graphs are judged by it, too
};
constexpr Impossible kImpossible[] = {{1'000'000'000, 1, 1, true},
                                      {10'000'000, 8, 1, true},
                                      {10'000'000, 1, 100, false},
                                      {1'000'000, 4, 10, false}};
constexpr int64_t kSuspectNs = 1'000'000;
constexpr size_t kLookAhead = 64;  // successors that are looked at
// The last one of a stream cannot last so much longer than all that ran before it. Nor can it than
// it took for everything on all streams to begin, where others of its name are short: a single one
// may decode for seconds, and one that communicates waits.
constexpr int64_t kCertainNs = 1'000'000'000;
constexpr int64_t kMostTimesBefore = 1000;
constexpr int64_t kLeastBefore = 8;

bool is_point_to_point(std::string_view function) {
  return function == "send" || function == "recv" || function == "sendrecv" || function == "put";
}

}  // namespace

// The best that is known of a communication kernel.
gpu::CollectiveFacts ProcessBuilder::communication_facts(
    const GpuActivity& activity, const gpu::KernelIdentity& identity) const {
  gpu::CollectiveFacts facts;
  if (activity.communication != 0) {
    facts = communications_[activity.communication];
  } else if (const auto message = gpu::message_of(operands_.at(activity.operands))) {
    facts = *message;
    // One call may be carried out by a kernel of another name: an all-to-all by sends and receives.
    if (const auto named = functions_.find(activity.op_name); named != functions_.end()) {
      facts.function = named->second;
    }
  }
  if (facts.function.empty()) facts.function = identity.function;
  return facts;
}

// What is waiting of one process.
class ProcessBuilder::WaitingOps : public OperatorSource {
 public:
  explicit WaitingOps(const ProcessBuilder& builder) : builder_(builder) {}
  void add(const StreamOperators& stream) { streams_.push_back(stream); }
  const std::vector<StreamOperators>& streams() const override { return streams_; }

  Next sequence(const StreamOperators& stream, Of of) const override {
    return [pass = pass_over(stream), all = of == Of::operators](StepOperator& op) mutable {
      WaitingOp waiting;
      while (pass.next(waiting)) {
        if (!all && waiting.kind != OpKind::collective && waiting.kind != OpKind::p2p) continue;
        op = {.start_ns = waiting.activity.start_ns,
              .end_ns = waiting.activity.end_ns,
              .name = waiting.activity.name,
              .kind = waiting.kind,
              .bytes = waiting.bytes,
              .communicator = waiting.communicator};
        return true;
      }
      return false;
    };
  }

  void launched(const Take& take) const override {
    for (const StreamOperators& stream : streams_) {
      auto pass = pass_over(stream);
      for (WaitingOp op; pass.next(op);) {
        if (op.range != 0) take(op.range, op.activity.start_ns, op.activity.end_ns);
      }
    }
  }

 private:
  gpu::RecordLog<WaitingOp>::Pass pass_over(const StreamOperators& stream) const {
    return {builder_.waiting_ops_, static_cast<size_t>(stream.first),
            static_cast<size_t>(stream.last) + 1};
  }

  const ProcessBuilder& builder_;
  std::vector<StreamOperators> streams_;
};

void ProcessBuilder::make_ops(StreamSorter& activities) {
  first_op_ = db_.next_op();
  ops_of_stream_.resize(streams_.size());
  activities.sort();
  struct Waiting {
    GpuActivity activity;
    int holds = 0;
  };
  std::deque<Waiting> waiting;   // activities that are not judged yet; mostly empty
  uint32_t stream = UINT32_MAX;  // of the last one written
  int64_t before = 0, first_ns = 0;
  const auto is_impossible = [&](const GpuActivity& activity, int holds, bool last) {
    const int64_t dur_ns = activity.end_ns - activity.start_ns;
    if (dur_ns < kSuspectNs) return false;
    for (const Impossible& rule : kImpossible) {
      if (dur_ns >= rule.least_ns && holds >= rule.whole_successors &&
          dur_ns / rule.times_shortest >= shortest_ns_[activity.name] &&
          (rule.in_graphs || !activity.from_replay)) {
        return true;
      }
    }
    if (dur_ns < kCertainNs || !last) return false;
    const bool beyond_its_stream = activity.stream == stream && before >= kLeastBefore &&
                                   dur_ns / kMostTimesBefore > activity.start_ns - first_ns;
    if (beyond_its_stream) return true;
    const gpu::KernelClass kind = identity(activity.name).kernel_class;
    const bool waits = activity.communication != 0 || gpu::communicates(kind);
    return !waits && calls_.activities() > kLeastBefore &&
           dur_ns / kMostTimesBefore >
               std::max(last_start_ns_ - first_start_ns_, shortest_ns_[activity.name]);
  };
  const auto make = [&](const GpuActivity& activity) {
    if (activity.stream != stream) {
      stream = activity.stream;
      before = 0;
      first_ns = activity.start_ns;
    }
    ++before;
    make_op(activity);
  };
  const auto release = [&](const GpuActivity* next) {
    while (!waiting.empty()) {
      const Waiting& front = waiting.front();
      const GpuActivity& activity = front.activity;
      const bool last = next == nullptr || next->stream != activity.stream;
      const bool settled = last || next->start_ns >= activity.end_ns || waiting.size() > kLookAhead;
      if (settled && is_impossible(activity, front.holds, last)) {
        leave_out_impossible(activity);
      } else if (settled || activity.end_ns - activity.start_ns < kSuspectNs) {
        make(activity);
      } else {
        return;
      }
      waiting.pop_front();
    }
  };
  GpuActivity activity;
  while (activities.next(activity)) {
    for (Waiting& earlier : waiting) {
      const GpuActivity& around = earlier.activity;
      if (around.stream == activity.stream && activity.end_ns <= around.end_ns &&
          around.end_ns - around.start_ns >= kSuspectNs) {
        ++earlier.holds;
      }
    }
    release(&activity);
    if (waiting.empty() && activity.end_ns - activity.start_ns < kSuspectNs) {
      make(activity);
      continue;
    }
    waiting.push_back({activity});
    release(&activity);
  }
  release(nullptr);
}

void ProcessBuilder::leave_out_impossible(const GpuActivity& activity) {
  if (!partial) {
    throw input_error(
        "{}: '{}' on stream {} lasts {} by its record, over the whole runs of later operators "
        "of the same stream, or {} times as long as all else; --partial imports the rest",
        source_file, printable(gpu::text_of(db_, activity.name), 80),
        streams_[activity.stream].number, format_duration(activity.end_ns - activity.start_ns),
        kMostTimesBefore);
  }
  lose("impossible_duration");
  // The process did not last as long as its last record says.
  latest_ns_ = std::max(latest_ns_, activity.start_ns + base_ns_);
}

void ProcessBuilder::make_op(GpuActivity activity) {
  ImportedProcess& result = processes_[process_of(activity)];
  const gpu::KernelIdentity& kernel = identity(activity.name);
  const bool communicates =
      !activity.is_copy && (activity.communication != 0 || gpu::communicates(kernel.kernel_class));
  gpu::CollectiveFacts facts;
  OpKind kind = activity.is_copy ? OpKind::copy : gpu::op_kind_of(kernel.kernel_class);
  if (communicates) {
    facts = communication_facts(activity, kernel);
    kind = is_point_to_point(facts.function) ? OpKind::p2p : OpKind::collective;
    if (!facts.sequence && facts.communicator) {
      facts.sequence = sequences_[{process_of(activity), *facts.communicator}]++;
    }
  }
  activity.start_ns += base_ns_;
  activity.end_ns += base_ns_;
  const auto number = static_cast<int64_t>(waiting_ops_.size());
  const OpId op{first_op_.value + number};
  WaitingOp waiting{.activity = activity, .range = activity.range, .kind = kind};
  ++result.activities;
  latest_ns_ = std::max(latest_ns_, activity.end_ns);
  StreamOperators& stream = ops_of_stream_[activity.stream];
  if (stream.operators++ == 0) {
    stream.stream = stream_rows_[activity.stream].value;
    stream.first = number;
  }
  stream.last = number;
  if (communicates) {
    ++stream.communication;
    if (kind == OpKind::collective) ++stream.collectives;
    waiting.bytes = gpu::message_bytes(facts).value_or(-1);
    waiting.communicator = facts.communicator.value_or(-1);
    // A kernel: the host call had returned.
    gpu::add_collective(db_, op, facts, false);
  }
  waiting_ops_.add(waiting);
  if (activity.is_copy) return;
  ++result.kernels;
  const bool may_learn = activity.replay != 0 && !facts.bytes && !facts.in_elements;
  if (communicates && !may_learn) return;
  result.uses.add(
      {.start_ns = activity.start_ns,
       .dur_ns = activity.end_ns - activity.start_ns,
       .op = op.value,
       .name = activity.name,
       .operands = activity.operands,
       .scope = activity.scope,
       .op_name = activity.op_name,
       .kernel_class = communicates ? gpu::KernelClass::collective : kernel.kernel_class,
       .replay = activity.replay,
       .in_replay = activity.in_replay,
       .tokens = activity.tokens});
}

void ProcessBuilder::write_ops(StepNames* steps) {
  std::vector<std::vector<KnownStep>> known(processes_.size());
  if (steps != nullptr) {
    std::vector<WaitingOps> waiting(processes_.size(), WaitingOps(*this));
    for (size_t i = 0; i < ops_of_stream_.size(); ++i) {
      if (ops_of_stream_[i].operators > 0) waiting[process_of_stream_[i]].add(ops_of_stream_[i]);
    }
    std::vector<StepSearch> searches;
    for (size_t process = 0; process < processes_.size(); ++process) {
      searches.push_back({processes_[process].id, &waiting[process]});
    }
    known = find_steps(db_, searches, *steps, {.first = first_range_});
  }
  gpu::RecordLog<WaitingOp>::Pass pass(waiting_ops_, 0, waiting_ops_.size());
  for (WaitingOp op; pass.next(op);) {
    const gpu::Activity& activity = op.activity;
    gpu::add_op(db_, activity, stream_rows_[activity.stream], op.kind, {activity.name}, {op.range},
                step_at(known[process_of_stream_[activity.stream]], activity.start_ns));
  }
  waiting_ops_ = gpu::RecordLog<WaitingOp>();
}

// What could not be used of the file counts for its first process.
void ProcessBuilder::write_losses() {
  for (const ImportedProcess& process : processes_) {
    const bool first = &process == &processes_.front();
    const int64_t written = process.activities;
    db_.add_loss(process.id, "import", "received", written + (first ? lost() : 0));
    db_.add_loss(process.id, "import", "written", written);
    // Kernels are kept without their launch, but lose range, shapes and module.
    db_.add_loss(process.id, "launch", "received", written);
    db_.add_loss(process.id, "launch", "written", written - process.unmatched);
    if (process.unmatched != 0) {
      db_.add_loss(process.id, "launch", "unmatched", process.unmatched);
    }
  }
  const ProcessId first = processes_.front().id;
  if (losses_.find("impossible_duration") != losses_.end()) {
    db_.execute("UPDATE process SET complete = 0, end_ns = MAX(?, 0) WHERE id >= ?",
                {latest_ns_, first.value});
    db_.execute(
        "UPDATE process SET end_ns = MAX(process.end_ns, last_ns) FROM (SELECT process_id, "
        "MAX(range.end_ns) AS last_ns FROM range JOIN stream ON stream.id = stream_id "
        "WHERE range.id >= ? GROUP BY process_id) WHERE process_id = process.id "
        "AND last_ns IS NOT NULL",
        {first_range_});
  }
  for (const auto& [kind, count] : losses_) db_.add_loss(first, "import", kind, count);
  if (dropped_ranges_ != 0) db_.add_loss(first, "import", "range_too_deep", dropped_ranges_);
}

}  // namespace preserve::import
