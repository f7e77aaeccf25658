// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "common/error.h"
#include "profiler/cuda/rows.h"
#include "profiler/host_device.h"
#include "profiler/names.h"
#include "profiler/operators.h"
#include "profiler/process_image.h"
#include "profiler/tensors.h"
#include "profiler/thread_reader.h"

namespace preserve {
namespace {

constexpr double kLeafConfidence = 1.0;
// The tensor's module is an ancestor of the range: one of several operators inside it reads it.
constexpr double kAncestorConfidence = 0.5;

// The tensors that operators of a range touch: its own, or those of the nearest ancestor with any.
struct ModuleOfRange {
  const std::vector<uint32_t>* tensors = nullptr;
  bool own = false;
  bool touched = false;  // by an earlier segment of the same range
};

class ProcessConverter {
 public:
  ProcessConverter(const SpoolFileReader& file, ProcessImage& image, TraceDb& db, Names& names,
                   DeviceId device, const StepOptions& step_options,
                   const import::KernelRules& kernel_rules, ConvertSummary& summary)
      : file_(file),
        image_(image),
        db_(db),
        names_(names),
        device_(device),
        step_options_(step_options),
        kernel_rules_(kernel_rules),
        summary_(summary) {}

  void run(const std::function<void(size_t bytes)>& done);

 private:
  void add_process();
  struct Thread {
    std::unique_ptr<ThreadReader> reader;
    StreamId stream;
    RangeId first_range;
    size_t bytes = 0;
  };
  Thread read_thread(uint32_t tid, const std::vector<std::string_view>& chunks);
  void convert_thread(const Thread& thread);
  StreamId stream(uint32_t tid, StreamKind kind);
  RangeId add_ranges(StreamId stream, const ThreadReader& reader);
  void add_operators(StreamId stream, const Timeline& timeline, RangeId first_range);
  void add_collective(OpId op, const TimelineCall& call);
  void add_accesses(OpId op, int64_t start_ns, ModuleOfRange& module);
  int64_t add_access(OpId op, int64_t operand, Tensors::Tensor& tensor, int64_t start_ns,
                     double confidence);
  void keep_loose(const Thread& thread);
  void add_loose();
  void add_background();
  void add_cuda();
  void add_losses();
  void add_loss(const char* source, LossCount& count);

  struct Loose {
    LooseEvent event;
    StreamId stream;
    RangeId around;
    int64_t depth;
  };

  const SpoolFileReader& file_;
  ProcessImage& image_;
  TraceDb& db_;
  Names& names_;
  DeviceId device_;
  const StepOptions& step_options_;
  const import::KernelRules& kernel_rules_;
  ConvertSummary& summary_;
  ProcessId process_;
  std::unique_ptr<Tensors> tensors_;
  std::map<std::pair<uint32_t, StreamKind>, StreamId> streams_;
  std::vector<KnownStep> steps_;
  std::vector<Loose> loose_;
  std::vector<cuda::HostRange> host_ranges_;                // of all threads, in order
  std::vector<TimelineCall> finished_;                      // non-blocking, completed
  std::map<std::pair<uint32_t, int64_t>, RangeId> issued_;  // by thread and start
};

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
  for (const auto& [tid, chunks] : image_.threads) threads.push_back(read_thread(tid, chunks));
  add_loose();
  // A device runs behind its host: where there is one, mark_steps() follows the launches at the
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

StreamId ProcessConverter::stream(uint32_t tid, StreamKind kind) {
  const auto [found, added] = streams_.try_emplace({tid, kind});
  if (added) {
    StreamRow row;
    row.process = process_;
    row.device = device_;
    row.kind = kind;
    row.native_id = tid;
    if (const auto name = image_.thread_names.find(tid); name != image_.thread_names.end()) {
      row.name = name->second;
    }
    found->second = db_.add(row);
  }
  return found->second;
}

ProcessConverter::Thread ProcessConverter::read_thread(
    uint32_t tid, const std::vector<std::string_view>& chunks) {
  Thread thread;
  thread.reader = std::make_unique<ThreadReader>(image_, names_);
  const auto ranges_before = static_cast<uint32_t>(host_ranges_.size());
  thread.reader->read(chunks, tid, ranges_before + 1);
  thread.stream = stream(tid, StreamKind::thread);
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
  const spool::MpiFunctionInfo& function = spool::kMpiFunctions[call.body.function];
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
// own beside the thread. A call whose completion was never seen counts as unmatched.
void ProcessConverter::add_background() {
  std::stable_sort(
      finished_.begin(), finished_.end(), [](const TimelineCall& a, const TimelineCall& b) {
        return a.body.tid != b.body.tid ? a.body.tid < b.body.tid : a.start_ns < b.start_ns;
      });
  const auto issued_count = static_cast<int64_t>(issued_.size());
  int64_t matched = 0;
  for (const TimelineCall& call : finished_) {
    const spool::MpiFunctionInfo& function = spool::kMpiFunctions[call.body.function];
    const auto issued = issued_.find({call.body.tid, call.start_ns});
    OpRow row;
    row.stream = stream(call.body.tid, StreamKind::async);
    row.kind = function.kind == spool::MpiKind::collective ? OpKind::collective : OpKind::p2p;
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
  const cuda::RowSummary rows =
      cuda::write_rows(run, {db_, process_, image_.host, host_ranges_, kernel_rules_});
  summary_.operators += rows.ops;
  summary_.collectives += rows.collectives;
}

void ProcessConverter::add_losses() {
  image_.nvtx.unmatched += tensors_->unmatched();
  add_loss("nvtx", image_.nvtx);
  add_loss("mpi", image_.mpi);
  add_loss("cuda_calls", image_.cuda_calls);
  summary_.processes += 1;
  summary_.ranks += image_.rank ? 1 : 0;
  summary_.complete = summary_.complete && image_.complete;
}

// received = written + dropped + unmatched + clipped + damaged + missing, by construction;
// `missing` is what the collector says it wrote and the file does not hold.
void ProcessConverter::add_loss(const char* source, LossCount& count) {
  const int64_t received = std::max(count.stated, count.read + count.dropped);
  const int64_t missing = received - count.read - count.dropped;
  const int64_t bad = std::min(count.read, count.unmatched + count.clipped + count.damaged);
  summary_.records += count.read;
  if (received == 0) return;
  const std::pair<const char*, int64_t> kinds[] = {{"dropped", count.dropped},
                                                   {"unmatched", count.unmatched},
                                                   {"clipped", count.clipped},
                                                   {"damaged", count.damaged},
                                                   {"missing", missing}};
  db_.add_loss(process_, source, "received", received);
  db_.add_loss(process_, source, "written", count.read - bad);
  const std::string who = image_.rank ? fmt::format("rank {}", *image_.rank)
                                      : fmt::format("process {}", file_.header().pid);
  for (const auto& [kind, records] : kinds) {
    if (records == 0) continue;
    db_.add_loss(process_, source, kind, records);
    summary_.losses.push_back(
        fmt::format("{}: {} of {} {} records {}", who, records, received, source, kind));
  }
}

// One rank is one process. Helpers that a rank started carry its environment, so of several that
// claim a rank the one with most communication, then most records, has it.
void settle_ranks(std::vector<std::unique_ptr<ProcessImage>>& images,
                  std::vector<std::string>& warnings) {
  std::map<int64_t, ProcessImage*> owners;
  const auto weight = [](const ProcessImage& image) {
    size_t bytes = 0;
    for (const auto& [tid, chunks] : image.threads) {
      for (const std::string_view chunk : chunks) bytes += chunk.size();
    }
    return std::pair(image.mpi.stated, bytes);
  };
  for (const auto& image : images) {
    if (!image->rank) continue;
    ProcessImage*& owner = owners[*image->rank];
    if (owner == nullptr) {
      owner = image.get();
      continue;
    }
    ProcessImage* loser = weight(*image) > weight(*owner) ? owner : image.get();
    if (loser == owner) owner = image.get();
    warnings.push_back(
        fmt::format("several processes say that they are rank {}; the busiest is", *loser->rank));
    loser->rank.reset();
    loser->world_size.reset();
  }
}

}  // namespace

std::vector<std::filesystem::path> spool_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".spool") files.push_back(entry.path());
  }
  if (error) throw input_error("{}: cannot read the folder: {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

ConvertSummary convert_spools(const std::vector<std::filesystem::path>& files, TraceDb& db,
                              const ConvertOptions& options) {
  ConvertSummary summary;
  std::vector<SpoolFileReader> readers;
  std::vector<std::unique_ptr<ProcessImage>> images;
  double total = 0, done = 0;
  for (const std::filesystem::path& file : files) {
    readers.emplace_back(file);
    images.push_back(std::make_unique<ProcessImage>(readers.back()));
    for (const auto& [tid, chunks] : images.back()->threads) {
      for (const std::string_view chunk : chunks) total += static_cast<double>(chunk.size());
    }
  }
  settle_ranks(images, summary.warnings);
  std::vector<size_t> order(files.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&images](size_t a, size_t b) {
    const int64_t rank_a = images[a]->rank.value_or(INT64_MAX);
    const int64_t rank_b = images[b]->rank.value_or(INT64_MAX);
    if (rank_a != rank_b) return rank_a < rank_b;
    return images[a]->clock.first_ns() < images[b]->clock.first_ns();
  });
  import::KernelRules kernel_rules;
  for (const std::string& file : options.kernel_rules) kernel_rules.add_file(file);
  Names names(db);
  std::map<std::string, DeviceId> devices;
  for (const size_t i : order) {
    auto [device, added] = devices.try_emplace(images[i]->host);
    if (added) device->second = db.add(host_device(images[i]->host));
    ProcessConverter converter(readers[i], *images[i], db, names, device->second, options.steps,
                               kernel_rules, summary);
    converter.run([&](size_t bytes) {
      if (options.stop != nullptr && options.stop->load() != 0) {
        throw input_error("interrupted while the trace was being made; nothing was written");
      }
      done += static_cast<double>(bytes);
      if (options.progress) options.progress(done, total);
    });
    images[i].reset();
  }
  if (devices.size() > 1) {
    summary.warnings.push_back("processes of several hosts: their clocks are not aligned");
  }
  summary.complete = summary.complete && !options.interrupted;
  db.set_meta("incomplete", summary.complete ? "0" : "1");
  summary.steps = mark_steps(db, options.steps);
  return summary;
}

}  // namespace preserve
