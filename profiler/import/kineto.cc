// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto.h"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "common/error.h"
#include "common/text.h"
#include "profiler/import/json_reader.h"
#include "profiler/import/kineto_event.h"

namespace preserve::import {
namespace {

// Chrome's format has µs. A time stamp this large would lie in the year 5138: the writer meant ns.
constexpr int64_t kLeastNanosecondStamp = 100'000'000'000'000'000;
constexpr double kKernelMetadata = 0.95;  // c10d wrote it next to the kernel
constexpr double kHostMetadata = 0.9;     // c10d wrote it on the host call that launched the kernel
constexpr size_t kProcessNameLimit = 1000;
constexpr size_t kGpuAnnotationLimit = 100'000;
constexpr int64_t kTimeLimitNs = std::numeric_limits<int64_t>::max() / 4;

class KinetoReader {
 public:
  KinetoReader(ByteSource& source, const std::string& file, bool partial, ProcessBuilder& builder)
      : file_(file), partial_(partial), builder_(builder), source_(source), json_(source, file) {}

  KinetoFile read();

 private:
  void read_document();
  void read_events();
  void use_event();
  void use_activity();
  void use_host_event(Category category);
  bool times(int64_t& start_ns, int64_t& end_ns);
  void refuse(const char* kind, std::string_view what);
  void read_devices();
  void read_distributed();
  void note_span(int64_t start_ns, int64_t end_ns);
  void note_process();

  const std::string& file_;
  bool partial_;
  ProcessBuilder& builder_;
  ByteSource& source_;
  JsonReader json_;
  KinetoFile result_;
  Event event_;
  enum class Unit { unknown, microseconds, nanoseconds } unit_ = Unit::unknown;
  std::optional<int64_t> host_process_;
  std::vector<HostRange> gpu_annotations_;
  bool has_host_ranges_ = false;
  std::map<int64_t, std::string> process_names_;
  bool spans_any_ = false;
};

KinetoFile KinetoReader::read() {
  try {
    read_document();
    if (!source_.damage().empty()) throw input_error("{}: {}", file_, source_.damage());
  } catch (const Error& error) {
    if (!partial_ || error.kind() != ErrorKind::input) throw;
    builder_.lose("unreadable_rest");
    result_.damage = error.what();
  }
  result_.text_bytes = json_.offset();
  if (!has_host_ranges_) {
    for (const HostRange& range : gpu_annotations_) builder_.add(range);
  }
  if (host_process_) builder_.row.command = process_names_[*host_process_];
  return std::move(result_);
}

void KinetoReader::read_document() {
  if (json_.peek() == '[') {
    read_events();
  } else {
    json_.begin_object();
    std::string_view key;
    bool found = false;
    while (json_.next_key(key)) {
      if (key == "traceEvents" && json_.peek() == '[') {
        found = true;
        read_events();
      } else if (key == "deviceProperties" && json_.peek() == '[') {
        read_devices();
      } else if (key == "distributedInfo" && json_.peek() == '{') {
        read_distributed();
      } else if (key == "baseTimeNanoseconds") {
        int64_t base = 0;
        if (json_.integer(base) && std::abs(base) < kTimeLimitNs) result_.base_ns = base;
      } else {
        json_.skip_value();
      }
    }
    if (!found) throw input_error("{}: is JSON but not a trace: it has no traceEvents", file_);
  }
  if (json_.peek() != '\0') {
    throw input_error("{}: something follows the end of the JSON text, at byte {}", file_,
                      json_.offset());
  }
}

void KinetoReader::read_events() {
  json_.begin_array();
  while (json_.next_element()) {
    if (json_.peek() != '{') {
      json_.skip_value();
      builder_.lose("not_an_event");
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
  if (event_.phase == 'M') {
    if (event_.name == "process_name" && process_names_.size() < kProcessNameLimit) {
      process_names_.try_emplace(event_.process, event_.text);
    }
    return;
  }
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
      // Writers without categories: the arguments show what ran on a stream.
      if (event_.stream >= 0 && event_.correlation != 0 && event_.has_duration) use_activity();
      return;
    case Category::ignored:
      return;
  }
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
  builder_.lose(kind);
}

void KinetoReader::note_span(int64_t start_ns, int64_t end_ns) {
  if (!spans_any_) {
    builder_.row.start_ns = start_ns;
    builder_.row.end_ns = end_ns;
    spans_any_ = true;
  }
  builder_.row.start_ns = std::min(builder_.row.start_ns, start_ns);
  builder_.row.end_ns = std::max(builder_.row.end_ns, end_ns);
}

void KinetoReader::note_process() {
  if (host_process_) return;
  host_process_ = event_.process;
  builder_.row.pid = event_.process;
}

void KinetoReader::use_activity() {
  GpuActivity activity;
  if (!times(activity.start_ns, activity.end_ns)) {
    return refuse("bad_time", "its ts or dur is not a usable number");
  }
  if (activity.end_ns < activity.start_ns)
    return refuse("negative_duration", "its duration is negative");
  if (event_.time == 0 && event_.duration == 0) return builder_.lose("zero_timestamp");
  if (event_.name.empty()) return refuse("no_name", "it has no name");
  note_span(activity.start_ns, activity.end_ns);
  activity.is_copy = event_.category == Category::copy;
  activity.correlation = event_.correlation;
  activity.bytes = event_.bytes;
  activity.stream =
      builder_.gpu_stream(event_.device >= 0 ? event_.device : event_.process, event_.context,
                          event_.stream >= 0 ? event_.stream : event_.thread);
  activity.name = builder_.kernel_name(event_.name);
  if (event_.graph > 0) activity.graph = event_.graph;
  if (event_.graph_node > 0) activity.graph_node = event_.graph_node;  // 0: launched by itself
  if (event_.communicates) {
    event_.communication.source = "kineto";
    event_.communication.confidence = kKernelMetadata;
    activity.communication = builder_.add_communication(std::move(event_.communication));
  }
  builder_.add(activity);
}

void KinetoReader::use_host_event(Category category) {
  ++result_.host_events;
  int64_t start_ns = 0, end_ns = 0;
  if (!times(start_ns, end_ns) || end_ns < start_ns) return builder_.lose("bad_host_event");
  if (category == Category::runtime) {
    if (event_.correlation == 0) return;
    note_process();
    builder_.add(Launch{.correlation = event_.correlation,
                        .start_ns = start_ns,
                        .thread = builder_.thread(event_.process, event_.thread)});
    return;
  }
  note_span(start_ns, end_ns);
  HostRange range{.start_ns = start_ns, .end_ns = end_ns};
  std::string_view name = event_.name;
  if (category == Category::gpu_annotation) {
    // The host's annotation says the same, in files that have a host.
    if (gpu_annotations_.size() < kGpuAnnotationLimit) {
      range.nests = false;
      range.thread = builder_.thread(event_.process, event_.thread);
      range.name = builder_.range_name(name, RangeClass::annotation);
      gpu_annotations_.push_back(range);
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
  has_host_ranges_ = true;
  range.thread = builder_.thread(event_.process, event_.thread);
  range.name = builder_.range_name(name, range.range_class);
  if (!event_.dims.empty()) range.operands = builder_.operands().add(event_.dims, event_.types);
  if (event_.communicates) {
    event_.communication.source = "kineto_host";
    event_.communication.confidence = kHostMetadata;
    range.communication = builder_.add_communication(std::move(event_.communication));
  }
  builder_.add(range);
}

void KinetoReader::read_devices() {
  json_.begin_array();
  while (json_.next_element()) {
    if (json_.peek() != '{') {
      json_.skip_value();
      continue;
    }
    gpu::DeviceFacts facts;
    int64_t id = -1, value = 0;
    json_.begin_object();
    std::string_view key;
    while (json_.next_key(key)) {
      if (key == "id") {
        json_.integer(id);
      } else if (key == "name" && json_.peek() == '"') {
        facts.name = printable(json_.string());
      } else if (key == "totalGlobalMem") {
        if (json_.integer(value) && value > 0) facts.memory_bytes = value;
      } else if (key == "numSms") {
        if (json_.integer(value) && value > 0) facts.units = value;
      } else {
        json_.skip_value();
      }
    }
    if (id >= 0) builder_.devices[id] = std::move(facts);
  }
}

void KinetoReader::read_distributed() {
  json_.begin_object();
  std::string_view key;
  while (json_.next_key(key)) {
    int64_t value = 0;
    if (key == "rank") {
      if (json_.integer(value) && value >= 0) builder_.row.rank = value;
    } else if (key == "world_size") {
      if (json_.integer(value) && value > 0) builder_.row.world_size = value;
    } else {
      json_.skip_value();
    }
  }
}

}  // namespace

KinetoFile read_kineto(ByteSource& source, const std::string& file, bool partial,
                       ProcessBuilder& builder) {
  return KinetoReader(source, file, partial, builder).read();
}

}  // namespace preserve::import
