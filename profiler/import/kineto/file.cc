// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/file.h"

#include <algorithm>
#include <limits>
#include <set>

#include "common/error.h"
#include "common/text.h"
#include "profiler/import/json_reader.h"
#include "profiler/import/kineto/event.h"
#include "profiler/import/kineto/header.h"
#include "profiler/import/kineto/process_names.h"
#include "profiler/import/kineto/writers.h"

namespace preserve::import {
namespace {

// Chrome's format has µs. A time stamp this large would lie in the year 5138: the writer meant ns.
constexpr int64_t kLeastNanosecondStamp = 100'000'000'000'000'000;
constexpr double kKernelMetadata = 0.95;  // c10d wrote it next to the kernel
constexpr double kHostMetadata = 0.9;     // c10d wrote it on the host call that launched the kernel
constexpr size_t kLaunchingLimit = 1000;
constexpr size_t kBegunLimit = 10'000;
constexpr size_t kUnknownLimit = 100;
constexpr size_t kGpuAnnotationLimit = 100'000;
constexpr int64_t kTimeLimitNs = std::numeric_limits<int64_t>::max() / 4;

class KinetoReader {
 public:
  KinetoReader(ByteSource& source, const std::string& file, bool partial, TraceDb& db,
               const gpu::KernelRules& rules, ProcessNames& names)
      : file_(file),
        partial_(partial),
        db_(db),
        rules_(rules),
        source_(source),
        json_(source, file),
        names_(names) {}

  KinetoFile read();

 private:
  // One rank of the file; most files have one.
  struct Rank {
    std::unique_ptr<ProcessBuilder> builder{};
    std::optional<int64_t> host_process{};
    std::vector<HostRange> gpu_annotations{};
    bool has_host_ranges = false, spans_any = false;
    std::set<int64_t> launching{};  // processes of the host
  };

  void read_document();
  void read_events(bool bare);
  void use_event();
  void begin_or_end();
  void use_event_of_process();
  void not_understood();
  void use_activity(const ProcessRole* role = nullptr);
  void use_host_event(Category category);
  void note_capture(int64_t start_ns, int64_t end_ns);
  bool times(int64_t& start_ns, int64_t& end_ns);
  void refuse(const char* kind, std::string_view what);
  void note_span(int64_t start_ns, int64_t end_ns);
  void note_process();
  void choose_rank() { choose_rank(names_.rank_of(event_)); }
  void choose_rank(const RankName& name);
  ProcessBuilder& builder() { return *rank_->builder; }
  uint32_t thread() { return builder().thread(names_.id_of(event_), event_.thread); }

  const std::string& file_;
  bool partial_;
  TraceDb& db_;
  const gpu::KernelRules& rules_;
  ByteSource& source_;
  JsonReader json_;
  KinetoFile result_;
  Event event_;
  enum class Unit { unknown, microseconds, nanoseconds } unit_ = Unit::unknown;
  std::map<RankName, Rank> ranks_;  // by what the file calls it
  Rank* rank_ = nullptr;            // of the event
  ProcessNames& names_;
  std::map<std::pair<int64_t, int64_t>, std::vector<Event>> begun_;  // by process and thread
  size_t begun_count_ = 0;
  std::map<int64_t, gpu::DeviceFacts> devices_;
  Distribution distribution_;
};

// Makes the rank that the event belongs to the present one.
void KinetoReader::choose_rank(const RankName& name) {
  if (rank_ != nullptr && rank_->builder->rank_name == name) return;
  const auto [entry, fresh] = ranks_.try_emplace(name);
  rank_ = &entry->second;
  if (!fresh) return;
  rank_->builder = std::make_unique<ProcessBuilder>(db_, rules_);
  rank_->builder->partial = partial_;
  rank_->builder->source_file = file_;
  rank_->builder->row.host = "unknown";
  rank_->builder->rank_name = name;
}

KinetoFile KinetoReader::read() {
  choose_rank({});
  try {
    read_document();
    if (!source_.damage().empty()) throw input_error("{}: {}", file_, source_.damage());
  } catch (const Error& error) {
    if (!partial_ || error.kind() != ErrorKind::input) throw;
    builder().lose("unreadable_rest");
    result_.damage = error.what();
  }
  result_.strings_cut = static_cast<int64_t>(json_.strings_cut());
  if (begun_count_ != 0) builder().lose("unfinished_event", static_cast<int64_t>(begun_count_));
  // Events of no rank, beside ranks: metadata and the spans of the whole file.
  if (const auto none = ranks_.find({}); ranks_.size() > 1 && none != ranks_.end()) {
    const ProcessBuilder& left = *none->second.builder;
    if (left.activities() == 0 && left.ranges() == 0 && left.lost() == 0) ranks_.erase(none);
  }
  result_.writer = writer_of(names_.all(), result_.unknown, result_.host_events != 0);
  for (auto& [key, rank] : ranks_) {
    ProcessBuilder& own = *rank.builder;
    if (!rank.has_host_ranges) {
      for (const HostRange& range : rank.gpu_annotations) own.add(range);
    }
    if (rank.host_process) own.row.command = names_.name_of(*rank.host_process);
    result_.launching_processes = std::max(result_.launching_processes, rank.launching.size());
    own.devices = devices_;
    own.row.world_size = distribution_.world_size;
    own.row.rank = own.rank_name.rank;
    if (ranks_.size() == 1 && distribution_.rank) own.row.rank = distribution_.rank;
    result_.activities += static_cast<int64_t>(own.activities());
    result_.processes.push_back(std::move(rank.builder));
  }
  return std::move(result_);
}

void KinetoReader::read_document() {
  if (json_.peek() == '[') {
    read_events(true);
  } else {
    json_.begin_object();
    std::string_view key;
    bool found = false;
    while (json_.next_key(key)) {
      if (key == "traceEvents" && json_.peek() == '[') {
        found = true;
        read_events(false);
      } else if (key == "deviceProperties" && json_.peek() == '[') {
        devices_ = read_device_properties(json_, result_.devices_left_out);
      } else if (key == "baseTimeNanoseconds") {
        int64_t base = 0;
        if (json_.integer(base) && std::abs(base) < kTimeLimitNs) result_.base_ns = base;
      } else if (!distribution_.read(json_, key)) {
        json_.skip_value();
      }
    }
    if (!found) throw input_error("{}: is JSON but not a trace: it has no traceEvents", file_);
  }
  if (json_.peek() != '\0') {
    throw input_error(
        "{}: something follows the end of the JSON text, at byte {}; --partial takes what came "
        "before",
        file_, json_.offset());
  }
}

// A bare array need not be closed: its writers append and may be killed.
void KinetoReader::read_events(bool bare) {
  json_.begin_array();
  while (json_.next_element(bare)) {
    if (json_.peek() != '{') {
      json_.skip_value();
      builder().lose("not_an_event");
      continue;
    }
    ++result_.events;
    if (read_event(json_, event_)) {
      use_event();
    } else if (event_.category == Category::python) {
      ++result_.frames_left_out;
    }
  }
}

void KinetoReader::use_event() {
  switch (event_.phase) {
    case 'M':
      return names_.note(event_);
    case 'B':
    case 'E':
      return begin_or_end();
    case 'b':
    case 'S':  // the same in older files
      choose_rank();
      return not_understood();
    default:
      break;
  }
  choose_rank();
  switch (event_.category) {
    case Category::kernel:
    case Category::copy:
      return use_activity();
    case Category::runtime:
    case Category::host_op:
    case Category::annotation:
    case Category::gpu_annotation:
    case Category::python:
      return use_host_event(event_.category);
    case Category::none:
      return use_event_of_process();
    case Category::ignored:
      return;
  }
}

// Chrome's other form of an event with a duration: one event where it begins, one where it ends,
// nested within a thread.
void KinetoReader::begin_or_end() {
  std::vector<Event>& begun = begun_[{names_.id_of(event_), event_.thread}];
  choose_rank();
  if (event_.phase == 'B') {
    if (begun_count_ >= kBegunLimit) return builder().lose("too_deep");
    begun.push_back(std::move(event_));
    ++begun_count_;
    return;
  }
  if (begun.empty()) return builder().lose("end_without_begin");
  event_ = joined(std::move(begun.back()), event_);
  begun.pop_back();
  --begun_count_;
  use_event();
}

// Writers without categories, or with ones of their own: what an event is follows from where it
// stands.
void KinetoReader::use_event_of_process() {
  if (!event_.has_time) return;
  if (event_.stream >= 0 && event_.correlation != 0 && event_.has_duration) return use_activity();
  const ProcessNames::Process& own = names_.role_of(event_);
  switch (own.role.role) {
    case Role::device: {
      if (names_.is_derived(event_) || encloses_others(own.name, event_.name)) return;
      if (!event_.task_type.empty()) {
        const Task task = task_of(event_.task_type);
        if (task == Task::wait) return;
        if (task == Task::copy) event_.category = Category::copy;
      }
      if (event_.name.starts_with("Memcpy") || event_.name.starts_with("Memset")) {
        event_.category = Category::copy;
      }
      return use_activity(&own.role);
    }
    case Role::communication:
      // What it is made of stands beside it, plane by plane.
      if (event_.name.starts_with("hcom_")) use_activity(&own.role);
      return;
    case Role::host:
      if (event_.correlation != 0) use_host_event(Category::runtime);
      if (event_.name.starts_with("$")) {  // a frame of JAX's Python tracer
        ++result_.frames_left_out;
        return;
      }
      return use_host_event(Category::host_op);
    case Role::derived:
      return;
    case Role::unknown:
      return not_understood();
  }
}

void KinetoReader::not_understood() {
  if (!event_.has_time) return;
  const bool room = result_.unknown.size() < kUnknownLimit;
  ++result_.unknown[room ? description_of(event_, names_.role_of(event_).name) : "of other kinds"];
  builder().lose("unknown_event");
}

bool KinetoReader::times(int64_t& start_ns, int64_t& end_ns) {
  if (!event_.has_time || !event_.good_time || !event_.good_duration) return false;
  if (unit_ == Unit::unknown) {
    unit_ = event_.time >= kLeastNanosecondStamp ? Unit::nanoseconds : Unit::microseconds;
  }
  int64_t duration_ns = event_.duration;
  start_ns = event_.time;
  if (unit_ == Unit::microseconds) {
    if (std::abs(start_ns) > kTimeLimitNs / 1000 || std::abs(duration_ns) > kTimeLimitNs / 1000) {
      return false;
    }
    start_ns = start_ns * 1000 + event_.time_thousandths;
    duration_ns = duration_ns * 1000 + event_.duration_thousandths;
  }
  if (std::abs(start_ns) > kTimeLimitNs || std::abs(duration_ns) > kTimeLimitNs) return false;
  end_ns = start_ns + duration_ns;
  return true;
}

// A GPU record that cannot be used.
void KinetoReader::refuse(const char* kind, std::string_view what) {
  if (!partial_) {
    throw input_error("{}: event {} ('{}'), before byte {}: {}; --partial imports the rest", file_,
                      result_.events, printable(event_.name, 80), json_.offset(), what);
  }
  builder().lose(kind);
}

void KinetoReader::note_span(int64_t start_ns, int64_t end_ns) {
  ProcessRow& row = builder().row;
  if (!rank_->spans_any) {
    row.start_ns = start_ns;
    row.end_ns = end_ns;
    rank_->spans_any = true;
  }
  row.start_ns = std::min(row.start_ns, start_ns);
  row.end_ns = std::max(row.end_ns, end_ns);
}

void KinetoReader::note_process() {
  if (rank_->host_process) return;
  rank_->host_process = event_.process;
  builder().row.pid = event_.process;
}

// `role`: of the process, where that is what makes the event an activity.
void KinetoReader::use_activity(const ProcessRole* role) {
  GpuActivity activity;
  if (!event_.has_duration || !times(activity.start_ns, activity.end_ns)) {
    return refuse("bad_time", "its ts or dur is not a usable number");
  }
  if (activity.end_ns < activity.start_ns)
    return refuse("negative_duration", "its duration is negative");
  if (event_.time == 0 && event_.duration == 0) return builder().lose("zero_timestamp");
  if (event_.name.empty()) return refuse("no_name", "it has no name");
  note_span(activity.start_ns, activity.end_ns);
  activity.is_copy = event_.category == Category::copy;
  activity.correlation = event_.correlation;
  activity.bytes = event_.bytes;
  int64_t device = event_.process, context = event_.context;
  if (role != nullptr) {
    device = role->threads_are_devices ? event_.thread : role->device.value_or(event_.process);
    context = event_.process;
  }
  if (event_.device >= 0) device = event_.device;
  activity.stream =
      builder().gpu_stream(device, context, event_.stream >= 0 ? event_.stream : event_.thread);
  activity.name = builder().kernel_name(event_.name);
  if (event_.graph > 0) activity.graph = event_.graph;
  if (event_.graph_node > 0) activity.graph_node = event_.graph_node;  // 0: launched by itself
  if (event_.communicates) {
    event_.communication.source = "kineto";
    event_.communication.confidence = kKernelMetadata;
    activity.communication = builder().add_communication(std::move(event_.communication));
  }
  builder().add(activity);
}

// Calls that may be part of a capture, by the names that CUDA and HIP share.
void KinetoReader::note_capture(int64_t start_ns, int64_t end_ns) {
  const std::string_view name = event_.name;
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  CaptureCall call{.start_ns = start_ns, .end_ns = end_ns};
  if (has("StreamBeginCapture")) {
    call.what = CaptureCall::begins;
  } else if (has("StreamEndCapture")) {
    call.what = CaptureCall::ends;
  } else if (has("Memcpy") || has("Memset")) {
    call.what = CaptureCall::copies;
  } else if (has("GraphLaunch")) {
    result_.replays = true;
    return;
  } else if (!has("Launch") || has("HostFunc")) {
    return;
  }
  call.thread = thread();
  if (!event_.kernel.empty()) call.kernel = builder().kernel_name(event_.kernel);
  builder().add(call);
}

void KinetoReader::use_host_event(Category category) {
  ++result_.host_events;
  int64_t start_ns = 0, end_ns = 0;
  if (!times(start_ns, end_ns) || end_ns < start_ns) return builder().lose("bad_host_event");
  if (category == Category::runtime) {
    note_capture(start_ns, end_ns);
    if (event_.correlation == 0) return;
    note_process();
    if (rank_->launching.size() < kLaunchingLimit) rank_->launching.insert(names_.id_of(event_));
    builder().add(
        Launch{.correlation = event_.correlation, .start_ns = start_ns, .thread = thread()});
    return;
  }
  note_span(start_ns, end_ns);
  HostRange range{.start_ns = start_ns, .end_ns = end_ns};
  std::string_view name = event_.name;
  if (category == Category::gpu_annotation) {
    // The host's annotation says the same, in files that have a host.
    if (rank_->gpu_annotations.size() < kGpuAnnotationLimit) {
      range.nests = false;
      range.thread = thread();
      range.name = builder().range_name(name, RangeClass::annotation);
      rank_->gpu_annotations.push_back(range);
    }
    return;
  }
  range.range_class = RangeClass::annotation;
  if (category == Category::host_op) range.range_class = RangeClass::op;
  if (category == Category::python) {
    range.range_class = RangeClass::module;
    constexpr std::string_view kPrefix = "nn.Module: ";
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  }
  note_process();
  rank_->has_host_ranges = true;
  range.thread = thread();
  range.name = builder().range_name(name, range.range_class);
  if (!event_.dims.empty()) range.operands = builder().operands().add(event_.dims, event_.types);
  if (event_.communicates) {
    event_.communication.source = "kineto_host";
    event_.communication.confidence = kHostMetadata;
    range.communication = builder().add_communication(std::move(event_.communication));
  }
  builder().add(range);
}

}  // namespace

KinetoFile read_kineto(const std::function<std::unique_ptr<ByteSource>()>& open,
                       const std::string& file, bool partial, TraceDb& db,
                       const gpu::KernelRules& rules) {
  ProcessNames names(file);
  const auto read = [&] {
    const auto source = open();
    return KinetoReader(*source, file, partial, db, rules, names).read();
  };
  KinetoFile result = read();
  if (names.came_late()) {
    names.read_again();
    result = read();
  }
  // Ranks that are named and have no GPU work, beside GPU work of none: whose it is nothing says.
  const auto works = [](const auto& process) { return process->activities() != 0; };
  const auto named = [](const auto& process) { return process->rank_name.says_anything(); };
  const bool any_named = std::ranges::any_of(result.processes, named);
  const bool none_of_named_works = std::ranges::none_of(
      result.processes, [&](const auto& process) { return named(process) && works(process); });
  if (any_named && none_of_named_works && result.activities != 0) {
    names.forget_ranks();
    result = read();
  }
  return result;
}

}  // namespace preserve::import
