// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/process_converter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/text.h"
#include "common/units.h"
#include "profiler/convert/cuda/findings.h"
#include "profiler/convert/gpu_processes.h"

namespace preserve {
namespace {

constexpr double kLeafConfidence = 1.0;
// The tensor's module is an ancestor of the range: one of several operators inside it reads it.
constexpr double kAncestorConfidence = 0.5;

}  // namespace

void ProcessConverter::add_process() {
  row_.host = image_.host;
  row_.pid = file_.header().pid;
  row_.ppid = file_.header().ppid;
  row_.rank = image_.rank;
  row_.world_size = image_.world_size;
  row_.command = image_.command;
  row_.start_ns = image_.clock.first_ns();
  row_.end_ns = image_.clock.last_ns();
  row_.complete = image_.complete;
  process_ = db_.add(row_);
  constexpr std::string_view kPrefix = "env.";
  for (const auto& [name, value] : file_.facts()) {
    if (name.starts_with(kPrefix)) db_.add_env(process_, name.substr(kPrefix.size()), value);
  }
}

void ProcessConverter::run(const std::function<void(size_t bytes)>& done) {
  looked_at_ = [&](size_t bytes) {
    file_.looked_at(bytes);
    done(bytes);
  };
  add_process();
  const int64_t first_range = db_.query_integer("SELECT MAX(id) FROM range").value_or(0) + 1;
  tensors_ =
      std::make_unique<Tensors>(db_, names_, process_, std::move(image_.regions), image_.touches);
  touches_ = std::make_unique<Touches>(image_.touches, tensors_->touched());
  summary_.tensors += tensors_->count();
  // Ranges of all threads first: they say what the steps are and whose tensors are whose.
  std::vector<Thread> threads;
  threads.reserve(image_.threads.size());
  for (const auto& [key, chunks] : image_.threads) {
    Thread& thread = threads.emplace_back();
    thread.tid = key.tid;
    thread.chunks = &chunks;
    read_thread(thread);
  }
  loose_.join();
  for (const Thread& thread : threads) read_loose(thread);
  image_.nvtx.unmatched += loose_.unmatched();
  summary_.ranges += loose_.rows();
  // A device runs later than its host: where there is one, mark_steps() follows the launches at the
  // end.
  if (!image_.cuda.has_activities()) {
    steps_ = mark_annotated_steps(db_, process_, step_names_, {.first = first_range});
  }
  if (tensors_->count() > 0) tensors_->assign_to_modules(db_, range_names_);
  for (Thread& thread : threads) convert_thread(thread);
  add_background();
  const int64_t before = db_.query_integer("SELECT MAX(id) FROM op").value_or(0);
  add_cuda();
  gpus_ = one_process_per_gpu(db_, process_, row_, before, first_range, who(), summary_.warnings);
  add_losses();
}

StreamId ProcessConverter::add_stream(uint32_t tid, StreamKind kind) {
  StreamRow row{.process = process_, .device = device_, .kind = kind, .native_id = tid};
  if (const auto name = image_.thread_names.find(tid); name != image_.thread_names.end()) {
    row.name = name->second;
  }
  return db_.add(row);
}

StreamId ProcessConverter::async_stream(uint32_t tid) {
  const auto [found, added] = async_streams_.try_emplace(tid);
  if (added) found->second = add_stream(tid, StreamKind::async);
  return found->second;
}

void ProcessConverter::read_thread(Thread& thread) {
  thread.stream = add_stream(thread.tid, StreamKind::thread);
  thread.first_range = RangeId{db_.query_integer("SELECT MAX(id) FROM range").value_or(0) + 1};
  const auto ranges_before = static_cast<uint32_t>(host_ranges_.size());
  int64_t added = 0;
  const auto written = [&](const RangeRow& row, uint32_t parent) {
    if (range_names_.size() <= static_cast<size_t>(row.name.value)) {
      range_names_.resize(static_cast<size_t>(row.name.value) + 1);
    }
    range_names_[static_cast<size_t>(row.name.value)] = true;
    if (image_.cuda.has_records()) {
      host_ranges_.push_back({row.name, row.domain,
                              parent == kNoRange ? 0 : ranges_before + 1 + parent,
                              RangeId{thread.first_range.value + added}, row.depth});
    }
    ++added;
  };
  RangeRows rows(db_, thread.stream, thread.first_range, thread.shape, written);
  ThreadReader reader(image_, names_, rows, looked_at_);
  reader.on_payload = [&](uint32_t range, std::string json) {
    rows.add_payload(range, std::move(json));
  };
  reader.on_loose = [&](const LooseEvent& event) {
    thread.has_loose = true;
    loose_.count(event);
  };
  reader.on_issued = [&](const TimelineCall& call) {
    issued_.add(
        {call.body.tid, call.start_ns, static_cast<int64_t>(issued_.size()),
         call.range == kNoRange ? RangeId{} : RangeId{thread.first_range.value + call.range}});
  };
  reader.on_finished = [&](const TimelineCall& call) {
    finished_.add({call, static_cast<int64_t>(finished_.size())});
  };
  reader.read(*thread.chunks, thread.tid, ranges_before + 1);
  rows.finish(reader.timeline().open());
  summary_.ranges += added;
}

// Marks and start/end ranges, once all threads are read: a range may end on another thread.
void ProcessConverter::read_loose(const Thread& thread) {
  if (!thread.has_loose) return;
  TimelineListener nothing_else;
  const std::function<void(size_t)> done = [this](size_t bytes) { file_.looked_at(bytes); };
  ThreadReader reader(image_, names_, nothing_else, done);
  reader.on_loose = [&](const LooseEvent& event) {
    RangeId around;
    int64_t depth = event.depth;
    if (event.around != kNoRange) {
      around = RangeId{thread.first_range.value + event.around};
      // What is open around it may not be what is around the row in the end.
      if (thread.shape.interleaved) {
        depth = 1 + db_.query_integer("SELECT depth FROM range WHERE id = ?", {around.value})
                        .value_or(depth - 1);
      }
    }
    loose_.add_row(event, thread.stream, around, depth, db_);
  };
  reader.read_again(*thread.chunks);
}

void ProcessConverter::convert_thread(Thread& thread) {
  OperatorRules rules(thread.shape, names_);
  const auto each_segment = [&](const std::function<void(const Segment&)>& visit) {
    Segments segments(thread.shape, visit);
    ThreadReader(image_, names_, segments, looked_at_).read_again(*thread.chunks);
    segments.finish();
  };
  each_segment([&](const Segment& segment) { rules.weigh(segment); });
  each_segment([&](const Segment& segment) { add_segment(thread, segment, rules); });
  thread.shape = {};
}

void ProcessConverter::add_segment(const Thread& thread, const Segment& segment,
                                   OperatorRules& rules) {
  const std::optional<Operator> op = rules.classify(segment);
  // Where a device computes, a host range is a place in the program and no operator.
  if (!op || (segment.call == nullptr && image_.cuda.has_activities())) return;
  OpRow row{.stream = thread.stream,
            .kind = op->kind,
            .name = StringId{op->name},
            .start_ns = segment.start_ns,
            .end_ns = segment.end_ns,
            .step = step_at(steps_, segment.start_ns)};
  if (const SegmentRange* range = segment.range()) {
    row.range = RangeId{thread.first_range.value + range->index};
  }
  const OpId id = db_.add(row);
  ++summary_.operators;
  if (op->kind == OpKind::collective || op->kind == OpKind::p2p) {
    add_collective(id, *segment.call);
  } else if (op->kind == OpKind::compute && !segment.open.empty() && tensors_->count() > 0) {
    add_accesses(id, segment.start_ns, module_of(segment.open));
  } else if (op->kind == OpKind::compute && segment.open.empty()) {
    add_touches(id, segment);
  }
}

// What lies between two calls that no range explains.
void ProcessConverter::add_touches(OpId op, const Segment& segment) {
  int64_t operand = 0;
  for (const Touches::Access& access : touches_->between(segment.start_ns, segment.end_ns)) {
    db_.add(AccessRow{.op = op,
                      .operand = operand++,
                      .tensor = access.tensor,
                      .offset_bytes = static_cast<int64_t>(access.offset_bytes),
                      .bytes = static_cast<int64_t>(std::min<uint64_t>(access.bytes, INT64_MAX)),
                      .mode = access.mode,
                      .source = "touch",
                      .confidence = access.confidence});
  }
}

// Of the innermost of `open`.
ModuleOfRange& ProcessConverter::module_of(std::span<SegmentRange> open) {
  size_t place = open.size();
  while (place > 0 && !open[place - 1].module.known) --place;
  for (; place < open.size(); ++place) {
    ModuleOfRange& module = open[place].module;
    module.tensors = tensors_->of_module(open[place].name);
    module.own = module.tensors != nullptr;
    if (!module.own && place > 0) module.tensors = open[place - 1].module.tensors;
    module.known = true;
  }
  return open.back().module;
}

void ProcessConverter::add_collective(OpId op, const TimelineCall& call) {
  const mpi::FunctionInfo& function = mpi::kFunctions[call.body.function];
  CollectiveRow row;
  row.op = op;
  row.function = function.operation;
  if (call.body.bytes >= 0) row.bytes = call.body.bytes;
  row.dtype = call.dtype;
  if (call.body.ranks > 0) row.ranks = call.body.ranks;
  if (call.body.communicator != 0) row.communicator = static_cast<int64_t>(call.body.communicator);
  if (call.body.sequence >= 0) row.sequence = call.body.sequence;
  if (call.body.peer >= 0) row.peer = call.body.peer;
  row.blocking = (call.flags & spool::kNonBlocking) == 0;
  row.source = "pmpi";
  db_.add(row);
  ++summary_.collectives;
}

void ProcessConverter::add_accesses(OpId op, int64_t start_ns, ModuleOfRange& module) {
  // A range cut by MPI calls reads its tensors once: its first operator has them.
  if (module.tensors == nullptr || module.touched) return;
  module.touched = true;
  int64_t operand = 0;
  for (const uint32_t index : *module.tensors) {
    operand = add_access(op, operand, tensors_->tensor(index), start_ns,
                         module.own ? kLeafConfidence : kAncestorConfidence);
  }
}

// A read of the whole tensor. A cache is also written where it is read, at its end: by as much as
// it has grown since the last time, or by an unknown amount (0 bytes) when its size says nothing.
int64_t ProcessConverter::add_access(OpId op, int64_t operand, Tensors::Tensor& tensor,
                                     int64_t start_ns, double confidence) {
  const Tensors::Period* period = tensor.at(start_ns);
  if (period == nullptr) return operand;
  AccessRow row{.op = op,
                .operand = operand++,
                .tensor = period->row,
                .bytes = static_cast<int64_t>(std::min<uint64_t>(period->bytes, INT64_MAX)),
                .mode = AccessMode::read,
                .source = "range_name",
                .confidence = confidence};
  db_.add(row);
  if (tensor.role != TensorRole::kv) return operand;
  const int64_t before =
      tensor.bytes_seen >= 0 ? std::min(tensor.bytes_seen, row.bytes) : row.bytes;
  tensor.bytes_seen = row.bytes;
  row.operand = operand++;
  row.offset_bytes = before;
  row.bytes -= before;
  row.mode = AccessMode::write;
  db_.add(row);
  return operand;
}

// Non-blocking communication, from the call that started it to its completion, on a stream of its
// own next to the thread. A call whose completion was never seen counts as unmatched.
void ProcessConverter::add_background() {
  finished_.sort();
  issued_.sort();
  int64_t issued_count = 0, matched = 0;
  Issued next{}, issued{};
  bool more = issued_.next(next), any = false;
  // Of several that began at one moment the last one counts.
  const auto key = [](const Issued& call) { return std::pair(call.tid, call.start_ns); };
  const auto take = [&] {
    issued = next;
    for (more = issued_.next(next); more && key(next) == key(issued); more = issued_.next(next)) {
      issued = next;
    }
    any = true;
    ++issued_count;
  };
  for (Finished finished{}; finished_.next(finished);) {
    const TimelineCall& call = finished.call;
    const mpi::FunctionInfo& function = mpi::kFunctions[call.body.function];
    const std::pair started(call.body.tid, call.start_ns);
    while (more && key(next) <= started) take();
    const bool collective = function.kind == mpi::Kind::collective;
    OpRow row{.stream = async_stream(call.body.tid),
              .kind = collective ? OpKind::collective : OpKind::p2p,
              .name = StringId{names_.id(function.name)},
              .start_ns = call.start_ns,
              .end_ns = call.end_ns,
              .step = step_at(steps_, call.start_ns)};
    if (any && key(issued) == started) {
      row.range = issued.range;
      ++matched;
    }
    const OpId op = db_.add(row);
    ++summary_.operators;
    add_collective(op, call);
  }
  while (more) take();
  image_.mpi.unmatched += std::max<int64_t>(0, issued_count - matched);
}

void ProcessConverter::add_cuda() {
  cuda::Run run = image_.cuda.finish();
  std::vector<cuda::NamedMemory> memory;
  for (const Tensors::Mapped& region : tensors_->mapped()) {
    memory.push_back(
        {region.base, region.bytes, region.from_ns, region.to_ns, region.row, region.role});
  }
  // By GPU, each of which reads its own part of what a range names, and occurrence of the range.
  std::map<std::pair<int64_t, uint64_t>, ModuleOfRange> modules;
  const auto add_by_range = [&](OpId op, int64_t gpu, StringId range, uint64_t instance,
                                int64_t start_ns) {
    const auto [module, fresh] = modules.try_emplace({gpu, instance});
    if (fresh) {
      module->second.tensors = tensors_->of_module(static_cast<uint32_t>(range.value));
      module->second.own = module->second.tensors != nullptr;
    }
    add_accesses(op, start_ns, module->second);
  };
  const cuda::RowSummary rows = cuda::write_rows(
      run, {db_, process_, image_.host, host_ranges_, kernel_rules_, memory, add_by_range});
  summary_.operators += rows.ops;
  summary_.collectives += rows.collectives;
  const cuda::Findings found = cuda::find_out(run);
  for (const std::string& text : found.notes) summary_.warnings.push_back(who() + ": " + text);
  for (const std::string& text : found.losses) summary_.losses.push_back(who() + ": " + text);
  const auto lose = [&](int64_t all, int64_t known, const char* what) {
    if (known < all)
      summary_.losses.push_back(fmt::format("{}: {} of {} {}", who(), all - known, all, what));
  };
  lose(static_cast<int64_t>(run.activities.size()), rows.join.launched,
       "GPU operators know no call that launched them, so no range");
  lose(rows.join.graph_nodes, rows.join.resolved_nodes,
       "nodes of CUDA graphs know no capture, so no module");
  if (run.counter_setups.empty()) return;
  summary_.counters = true;
  for (const cuda::CounterSetup& setup : run.counter_setups) {
    const uint32_t missing = cuda::counters_of(setup.body.groups) & ~setup.body.counters;
    if (setup.body.device == cuda::kNoDevice || !setup.why_not.empty()) continue;
    for (size_t i = 0; i < cuda::kCounters; ++i) {
      if ((missing >> i & 1) == 0) continue;
      summary_.warnings.push_back(
          fmt::format("{}: {} has no {} that it can count in one pass with the rest", who(),
                      setup.chip, cuda::kCounterNames[i]));
    }
  }
  if (rows.counters.whole_graphs > 0) {
    summary_.warnings.push_back(
        fmt::format("{}: {} of {} graph launches have counters as a whole only: their nodes were "
                    "not captured from one stream, or before the recording",
                    who(), rows.counters.whole_graphs, rows.counters.graphs));
  }
  if (run.losses.counter_skipped > 0) {
    summary_.warnings.push_back(
        fmt::format("{}: {} launches that communicate between ranks were not counted: counting "
                    "waits for each kernel, and these wait for other ranks",
                    who(), run.losses.counter_skipped));
  }
}

std::string ProcessConverter::who() const {
  return image_.rank ? fmt::format("rank {}", *image_.rank)
                     : fmt::format("process {}", file_.header().pid);
}

void ProcessConverter::add_touch_cost(const TouchCost& cost) {
  const int64_t whole_ns = image_.clock.last_ns() - image_.clock.first_ns();
  summary_.warnings.push_back(fmt::format(
      "{}: --touch cost {} of {}: {} faults in {} intervals between MPI calls; times of this "
      "recording contain that",
      who(), format_duration(cost.ns), format_duration(whole_ns), cost.faults, cost.intervals));
  if (cost.ended_by.empty()) return;
  summary_.warnings.push_back(
      fmt::format("{}: --touch ended at a call of {}: memory may be in use behind it", who(),
                  printable(cost.ended_by, 60)));
}

void ProcessConverter::add_losses() {
  image_.nvtx.unmatched += tensors_->unmatched();
  image_.nvtx.uncounted += tensors_->unmatched_uncounted();
  add_loss("nvtx", image_.nvtx);
  add_loss("mpi", image_.mpi);
  add_loss("cuda_calls", image_.cuda_calls);
  if (image_.touch_cost) add_touch_cost(*image_.touch_cost);
  if (image_.file_was_full) {
    summary_.warnings.push_back(
        who() + ": its spool took no more for a while (disk full, or a limit on file sizes)");
  }
  if (image_.limit_reached && file_.gap_bytes() == 0) {
    summary_.warnings.push_back(who() +
                                ": its spool reached the limit of --max-spool, and the newest "
                                "records were dropped");
  }
  if (image_.disk_was_short) {
    summary_.warnings.push_back(who() +
                                ": its spool took no more while the disk was short, and newer "
                                "records may have been dropped");
  }
  summary_.processes += std::max<int64_t>(std::ssize(gpus_), 1);
  summary_.complete = summary_.complete && image_.complete;
}

// received = written + dropped + sampled + unmatched + clipped + damaged + missing. `missing` is
// what the collector counted as written and the file does not hold; `overwritten` where the oldest
// records gave way.
void ProcessConverter::add_loss(const char* source, LossCount& count) {
  const int64_t known = count.read + count.dropped + count.sampled;
  const int64_t counted = std::max(count.stated, known);
  const int64_t received = counted + count.uncounted;
  const int64_t bad = count.unmatched + count.clipped + count.damaged - count.uncounted;
  summary_.records += count.read;
  if (received == 0) return;
  const std::pair<const char*, int64_t> kinds[] = {
      {"dropped", count.dropped},
      {"sampled", count.sampled},
      {"unmatched", count.unmatched},
      {"clipped", count.clipped},
      {"damaged", count.damaged},
      {file_.gap_bytes() > 0 ? "overwritten" : "missing", counted - known}};
  db_.add_loss(process_, source, "received", received);
  db_.add_loss(process_, source, "written", count.read - bad);
  for (const auto& [kind, records] : kinds) {
    if (records == 0) continue;
    db_.add_loss(process_, source, kind, records);
    summary_.losses.push_back(
        fmt::format("{}: {} of {} {} records {}", who(), records, received, source, kind));
  }
}

}  // namespace preserve
