// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/process_converter.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "profiler/convert/cuda/findings.h"
#include "profiler/convert/operators.h"

namespace preserve {
namespace {

constexpr double kLeafConfidence = 1.0;
// The tensor's module is an ancestor of the range: one of several operators inside it reads it.
constexpr double kAncestorConfidence = 0.5;

}  // namespace

void ProcessConverter::add_process() {
  ProcessRow row;
  row.host = image_.host;
  row.pid = file_.header().pid;
  row.ppid = file_.header().ppid;
  row.rank = image_.rank;
  row.world_size = image_.world_size;
  row.command = image_.command;
  row.start_ns = image_.clock.first_ns();
  row.end_ns = image_.clock.last_ns();
  row.complete = image_.complete;
  process_ = db_.add(row);
  constexpr std::string_view kPrefix = "env.";
  for (const auto& [name, value] : file_.facts()) {
    if (name.substr(0, kPrefix.size()) == kPrefix) {
      db_.add_env(process_, name.substr(kPrefix.size()), value);
    }
  }
}

void ProcessConverter::run(const std::function<void(size_t bytes)>& done) {
  add_process();
  tensors_ = std::make_unique<Tensors>(db_, names_, process_, std::move(image_.regions));
  summary_.tensors += tensors_->count();
  // Ranges of all threads first: they say what the steps are and whose tensors are whose.
  std::vector<Thread> threads;
  for (const auto& [thread, chunks] : image_.threads) {
    threads.push_back(read_thread(thread.tid, chunks));
  }
  add_loose();
  // A device runs later than its host: where there is one, mark_steps() follows the launches at the
  // end.
  if (!image_.cuda.has_activities()) {
    steps_ = mark_annotated_steps(db_, process_, step_options_);
  }
  if (tensors_->count() > 0) {
    std::set<uint32_t> range_names;
    for (const Thread& thread : threads) {
      for (const TimelineRange& range : thread.reader->timeline.ranges()) {
        range_names.insert(range.name);
      }
    }
    tensors_->assign_to_modules({range_names.begin(), range_names.end()});
  }
  for (Thread& thread : threads) {
    convert_thread(thread);
    done(thread.bytes);
    thread.reader.reset();
  }
  add_background();
  add_cuda();
  add_losses();
}

StreamId ProcessConverter::add_stream(uint32_t tid, StreamKind kind) {
  StreamRow row;
  row.process = process_;
  row.device = device_;
  row.kind = kind;
  row.native_id = tid;
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

ProcessConverter::Thread ProcessConverter::read_thread(
    uint32_t tid, const std::vector<std::string_view>& chunks) {
  Thread thread;
  thread.reader = std::make_unique<ThreadReader>(image_, names_);
  const auto ranges_before = static_cast<uint32_t>(host_ranges_.size());
  thread.reader->read(chunks, tid, ranges_before + 1);
  thread.stream = add_stream(tid, StreamKind::thread);
  thread.first_range = add_ranges(thread.stream, *thread.reader);
  for (const TimelineRange& range : thread.reader->timeline.ranges()) {
    const auto index = static_cast<int64_t>(host_ranges_.size() - ranges_before);
    const uint32_t parent = range.parent == kNoRange ? 0 : ranges_before + 1 + range.parent;
    host_ranges_.push_back({StringId{range.name}, StringId{range.domain}, parent,
                            RangeId{thread.first_range.value + index}, range.depth});
  }
  for (const std::string_view chunk : chunks) thread.bytes += chunk.size();
  keep_loose(thread);
  return thread;
}

void ProcessConverter::convert_thread(const Thread& thread) {
  const Timeline& timeline = thread.reader->timeline;
  add_operators(thread.stream, timeline, thread.first_range);
  for (const TimelineCall& call : timeline.calls()) {
    if ((call.flags & spool::kIssued) == 0) continue;
    issued_[{call.body.tid, call.start_ns}] =
        call.range == kNoRange ? RangeId{} : RangeId{thread.first_range.value + call.range};
  }
  finished_.insert(finished_.end(), thread.reader->finished.begin(), thread.reader->finished.end());
}

// Rows in the order of the timeline, so that a parent's row number is the first one's plus its
// index.
RangeId ProcessConverter::add_ranges(StreamId stream_id, const ThreadReader& reader) {
  std::vector<std::string> payloads;
  if (!reader.payloads.empty()) payloads.resize(reader.timeline.ranges().size());
  for (const RecordedPayload& payload : reader.payloads) {
    std::string& text = payloads[payload.range];
    const std::string json =
        payload_json(payload.body, payload.blob, payload.domain, image_.schemas);
    text = text.empty() ? json : fmt::format("{{\"push\":{},\"pop\":{}}}", text, json);
  }
  RangeId first;
  RangeRow row;
  row.stream = stream_id;
  size_t index = 0;
  for (const TimelineRange& range : reader.timeline.ranges()) {
    row.parent = range.parent == kNoRange ? RangeId{} : RangeId{first.value + range.parent};
    row.domain = StringId{range.domain};
    row.name = StringId{range.name};
    row.depth = range.depth;
    row.start_ns = range.start_ns;
    row.end_ns = range.end_ns == kOpenEnd ? std::optional<int64_t>() : range.end_ns;
    if (!payloads.empty()) row.payload = payloads[index];
    const RangeId id = db_.add(row);
    if (index++ == 0) first = id;
  }
  summary_.ranges += static_cast<int64_t>(index);
  return first;
}

void ProcessConverter::add_operators(StreamId stream_id, const Timeline& timeline,
                                     RangeId first_range) {
  OperatorRules rules(timeline, names_);
  const auto& ranges = timeline.ranges();
  std::vector<ModuleOfRange> modules;
  if (tensors_->count() > 0) {
    modules.resize(ranges.size());
    for (size_t i = 0; i < ranges.size(); ++i) {
      modules[i].tensors = tensors_->of_module(ranges[i].name);
      modules[i].own = modules[i].tensors != nullptr;
      if (!modules[i].own && ranges[i].parent != kNoRange) {
        modules[i].tensors = modules[ranges[i].parent].tensors;
      }
    }
  }
  timeline.for_each_segment([&](const Segment& segment) {
    const std::optional<Operator> op = rules.classify(segment);
    // Where a device computes, a host range is a place in the program and no operator.
    if (!op || (!segment.is_call && image_.cuda.has_activities())) return;
    OpRow row;
    row.stream = stream_id;
    row.kind = op->kind;
    row.name = StringId{op->name};
    row.start_ns = segment.start_ns;
    row.end_ns = segment.end_ns;
    row.step = step_at(steps_, segment.start_ns);
    if (segment.range != kNoRange) row.range = RangeId{first_range.value + segment.range};
    const OpId id = db_.add(row);
    ++summary_.operators;
    if (op->kind == OpKind::collective || op->kind == OpKind::p2p) {
      add_collective(id, timeline.calls()[segment.left.index]);
    } else if (op->kind == OpKind::compute && !modules.empty() && segment.range != kNoRange) {
      add_accesses(id, segment.start_ns, modules[segment.range]);
    }
  });
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
  AccessRow row;
  row.op = op;
  row.operand = operand++;
  row.tensor = period->row;
  row.bytes = static_cast<int64_t>(std::min<uint64_t>(period->bytes, INT64_MAX));
  row.mode = AccessMode::read;
  row.source = "range_name";
  row.confidence = confidence;
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

void ProcessConverter::keep_loose(const Thread& thread) {
  for (const LooseEvent& event : thread.reader->loose) {
    Loose loose{event, thread.stream, {}, 0};
    if (event.around != kNoRange) {
      loose.around = RangeId{thread.first_range.value + event.around};
      loose.depth = thread.reader->timeline.ranges()[event.around].depth + 1;
    }
    loose_.push_back(loose);
  }
}

// Marks and start/end ranges, once all threads are read: a range may end on another thread.
void ProcessConverter::add_loose() {
  std::map<uint64_t, int64_t> ends;
  int64_t end_records = 0;
  for (const Loose& loose : loose_) {
    if (loose.event.type != spool::RecordType::range_end) continue;
    ++end_records;
    ends.emplace(loose.event.id, loose.event.ns);
  }
  int64_t ends_used = 0;
  for (const Loose& loose : loose_) {
    const LooseEvent& event = loose.event;
    if (event.type == spool::RecordType::range_end) continue;
    const std::string payload =
        payload_json(event.body, event.blob, event.domain_number, image_.schemas);
    RangeRow row;
    row.stream = loose.stream;
    row.parent = loose.around;
    row.kind = event.type == spool::RecordType::mark ? RangeKind::mark : RangeKind::start_end;
    row.domain = StringId{event.domain};
    row.name = StringId{event.name};
    row.depth = loose.depth;
    row.start_ns = event.ns;
    row.payload = payload;
    if (row.kind == RangeKind::mark) {
      row.end_ns = event.ns;
    } else if (const auto end = ends.find(event.id); end != ends.end()) {
      row.end_ns = std::max(event.ns, end->second);
      ends.erase(end);
      ++ends_used;
    }
    db_.add(row);
    ++summary_.ranges;
  }
  image_.nvtx.unmatched += end_records - ends_used;
}

// Non-blocking communication, from the call that started it to its completion, on a stream of its
// own next to the thread. A call whose completion was never seen counts as unmatched.
void ProcessConverter::add_background() {
  std::stable_sort(
      finished_.begin(), finished_.end(), [](const TimelineCall& a, const TimelineCall& b) {
        return a.body.tid != b.body.tid ? a.body.tid < b.body.tid : a.start_ns < b.start_ns;
      });
  const auto issued_count = static_cast<int64_t>(issued_.size());
  int64_t matched = 0;
  for (const TimelineCall& call : finished_) {
    const mpi::FunctionInfo& function = mpi::kFunctions[call.body.function];
    const auto issued = issued_.find({call.body.tid, call.start_ns});
    OpRow row;
    row.stream = async_stream(call.body.tid);
    row.kind = function.kind == mpi::Kind::collective ? OpKind::collective : OpKind::p2p;
    row.name = StringId{names_.id(function.name)};
    row.start_ns = call.start_ns;
    row.end_ns = call.end_ns;
    row.step = step_at(steps_, call.start_ns);
    if (issued != issued_.end()) {
      row.range = issued->second;
      ++matched;
    }
    const OpId op = db_.add(row);
    ++summary_.operators;
    add_collective(op, call);
  }
  image_.mpi.unmatched += std::max<int64_t>(0, issued_count - matched);
}

void ProcessConverter::add_cuda() {
  cuda::Run run = image_.cuda.finish();
  std::vector<cuda::NamedMemory> memory;
  for (const Tensors::Mapped& region : tensors_->mapped()) {
    memory.push_back(
        {region.base, region.bytes, region.from_ns, region.to_ns, region.row, region.role});
  }
  std::map<uint64_t, ModuleOfRange> modules;  // by occurrence of a range
  const auto add_by_range = [&](OpId op, StringId range, uint64_t instance, int64_t start_ns) {
    const auto [module, fresh] = modules.try_emplace(instance);
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

void ProcessConverter::add_losses() {
  image_.nvtx.unmatched += tensors_->unmatched();
  image_.nvtx.uncounted += tensors_->unmatched_uncounted();
  add_loss("nvtx", image_.nvtx);
  add_loss("mpi", image_.mpi);
  add_loss("cuda_calls", image_.cuda_calls);
  if (image_.file_was_full) {
    summary_.warnings.push_back(
        who() + ": its spool took no more for a while (disk full, or a limit on file sizes)");
  }
  if (image_.limit_reached && file_.gap_bytes() == 0) {
    summary_.warnings.push_back(who() +
                                ": its spool reached the limit of --max-spool, and the newest "
                                "records were dropped");
  }
  summary_.processes += 1;
  summary_.ranks += image_.rank ? 1 : 0;
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
