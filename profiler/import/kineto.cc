// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

#include "common/cli.h"
#include "common/error.h"
#include "profiler/import/json_reader.h"

namespace preserve::import {
namespace {

// Chrome's format has µs. A time stamp this large would lie in the year 5138: the writer meant ns.
constexpr int64_t kLeastNanosecondStamp = 100'000'000'000'000'000;
constexpr size_t kProcessNameLimit = 1000;
constexpr int64_t kTimeLimitNs = std::numeric_limits<int64_t>::max() / 4;

enum class Category : uint8_t {
  none,
  kernel,
  copy,
  runtime,
  host_op,
  annotation,
  gpu_annotation,
  python,
  ignored
};

Category category_of(std::string_view text) {
  struct Entry {
    std::string_view text;
    Category category;
  };
  static constexpr Entry kEntries[] = {{"cpu_op", Category::host_op},
                                       {"cuda_runtime", Category::runtime},
                                       {"ac2g", Category::ignored},
                                       {"kernel", Category::kernel},
                                       {"python_function", Category::python},
                                       {"cuda_driver", Category::runtime},
                                       {"user_annotation", Category::annotation},
                                       {"cpu_instant_event", Category::ignored},
                                       {"gpu_memcpy", Category::copy},
                                       {"gpu_memset", Category::copy},
                                       {"gpu_user_annotation", Category::gpu_annotation},
                                       {"fwdbwd", Category::ignored},
                                       {"async", Category::ignored},
                                       {"async_gpu", Category::ignored},
                                       {"Operator", Category::host_op},
                                       {"Runtime", Category::runtime},
                                       {"Kernel", Category::kernel},
                                       {"Memcpy", Category::copy},
                                       {"Memset", Category::copy},
                                       {"overhead", Category::ignored},
                                       {"cuda_sync", Category::ignored},
                                       {"Trace", Category::ignored},
                                       {"cuda_profiler_range", Category::ignored},
                                       {"hip_runtime", Category::runtime},
                                       {"hip_driver", Category::runtime},
                                       {"privateuse1_runtime", Category::runtime},
                                       {"xpu_runtime", Category::runtime},
                                       {"mtia_runtime", Category::runtime}};
  for (const Entry& entry : kEntries) {
    if (entry.text == text) return entry.category;
  }
  return Category::none;
}

// What is kept of one event. Strings keep their capacity from event to event.
struct Event {
  char phase = 'X';
  Category category = Category::none;
  std::string name, dims, types, text;
  int64_t process = 0, thread = 0;
  int64_t time = 0, duration = 0;  // whole part, in the unit of the file
  int time_thousandths = 0, duration_thousandths = 0;
  bool has_time = false, has_duration = false, good_time = true, good_duration = true;
  int64_t correlation = 0, device = -1, context = 0, stream = -1, bytes = -1;
  int64_t graph = 0, graph_node = -1;
  bool communicates = false;
  Communication communication;

  void clear() {
    phase = 'X';
    category = Category::none;
    name.clear();
    dims.clear();
    types.clear();
    text.clear();
    process = thread = time = duration = 0;
    time_thousandths = duration_thousandths = 0;
    has_time = has_duration = false;
    good_time = good_duration = true;
    correlation = context = graph = 0;
    device = stream = bytes = graph_node = -1;
    if (communicates) communication = {};
    communicates = false;
  }
};

uint64_t hash_of(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Process and thread ids are numbers, numbers in quotes, or words ("stream 7", "Spans").
int64_t id_of(std::string_view text) {
  const size_t digit = text.find_last_not_of("0123456789") + 1;  // npos + 1 == 0
  int64_t value = 0;
  if (digit < text.size() &&
      std::from_chars(text.data() + digit, text.data() + text.size(), value).ec == std::errc()) {
    return value;
  }
  return static_cast<int64_t>(hash_of(text) >> 2);
}

class KinetoReader {
 public:
  KinetoReader(ByteSource& source, const std::string& file, bool partial, ProcessBuilder& builder)
      : file_(file), partial_(partial), builder_(builder), source_(source), json_(source, file) {}

  KinetoFile read();

 private:
  void read_document();
  void read_events();
  bool read_event();
  void read_arguments();
  void read_argument(std::string_view key);
  void read_communication(std::string_view key);
  bool is_left_out();
  int64_t id();
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
    if (!found) throw input_error("{}: is JSON but no trace: it has no traceEvents", file_);
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
    event_.clear();
    if (read_event()) use_event();
  }
}

// Known enough to say that the event is of no use; the rest of it need not be looked at.
bool KinetoReader::is_left_out() {
  if (event_.phase != 'X' && event_.phase != 'M') return true;
  if (event_.category == Category::ignored) return true;
  if (event_.category == Category::python && !event_.name.empty() &&
      event_.name.compare(0, 9, "nn.Module") != 0) {
    ++result_.frames_left_out;
    return true;
  }
  return false;
}

int64_t KinetoReader::id() {
  if (json_.peek() == '"') return id_of(json_.string());
  int64_t value = 0;
  return json_.integer(value) ? value : 0;
}

bool KinetoReader::read_event() {
  json_.begin_object();
  std::string_view key;
  while (json_.next_key(key)) {
    if (key == "ph") {
      const std::string_view phase =
          json_.peek() == '"' ? json_.string() : (json_.skip_value(), "?");
      event_.phase = phase.size() == 1 ? phase[0] : '?';
    } else if (key == "cat" && json_.peek() == '"') {
      event_.category = category_of(json_.string());
    } else if (key == "name" && json_.peek() == '"') {
      event_.name.assign(json_.string());
    } else if (key == "pid") {
      event_.process = id();
      continue;
    } else if (key == "tid") {
      event_.thread = id();
      continue;
    } else if (key == "ts") {
      event_.has_time = true;
      event_.good_time = json_.decimal(event_.time, event_.time_thousandths);
      continue;
    } else if (key == "dur") {
      event_.has_duration = true;
      event_.good_duration = json_.decimal(event_.duration, event_.duration_thousandths);
      continue;
    } else if (key == "args" && json_.peek() == '{') {
      read_arguments();
      continue;
    } else {
      json_.skip_value();
      continue;
    }
    if (is_left_out()) {
      json_.skip_rest_of_object();
      return false;
    }
  }
  return true;
}

void KinetoReader::read_arguments() {
  json_.begin_object();
  std::string_view key;
  while (json_.next_key(key)) {
    if (event_.category == Category::runtime && key == "correlation") {
      json_.integer(event_.correlation);
      json_.skip_rest_of_object();  // nothing else of a launch is used
      return;
    }
    read_argument(key);
  }
}

void KinetoReader::read_argument(std::string_view key) {
  switch (key.size()) {
    case 4:
      if (key == "name" && json_.peek() == '"') {
        event_.text.assign(json_.string());
        return;
      }
      break;
    case 5:
      if (key == "bytes") return (void)json_.integer(event_.bytes);
      if (key == "dtype") return read_communication(key);
      break;
    case 6:
      if (key == "stream") {
        event_.stream = id();
        return;
      }
      if (key == "device") {
        event_.device = id();
        return;
      }
      break;
    case 7:
      if (key == "context") {
        event_.context = id();
        return;
      }
      break;
    case 8:
      if (key == "graph id") return (void)json_.integer(event_.graph);
      if (key == "Src Rank" || key == "Dst Rank" || key == "Comms Id")
        return read_communication(key);
      break;
    case 10:
      if (key == "Input Dims" || key == "Input dims") {
        event_.dims.assign(json_.raw_value());
        return;
      }
      if (key == "Input type") {
        event_.types.assign(json_.raw_value());
        return;
      }
      if (key == "Group size") return read_communication(key);
      break;
    case 11:
      if (key == "correlation") return (void)json_.integer(event_.correlation);
      break;
    case 13:
      if (key == "graph node id") return (void)json_.integer(event_.graph_node);
      if (key == "In msg nelems") return read_communication(key);
      break;
    case 3:
      if (key == "Seq") return read_communication(key);
      break;
    case 14:
    case 15:
    case 18:
    case 19:
      if (key == "Out msg nelems" || key == "Collective name" || key == "Process Group Name" ||
          key == "Process Group Ranks") {
        return read_communication(key);
      }
      break;
    default:
      break;
  }
  json_.skip_value();
}

void KinetoReader::read_communication(std::string_view key) {
  Communication& facts = event_.communication;
  std::optional<int64_t>* number = nullptr;
  if (key == "In msg nelems") number = &facts.in_elements;
  if (key == "Out msg nelems") number = &facts.out_elements;
  if (key == "Group size") number = &facts.ranks;
  if (key == "Seq") number = &facts.sequence;
  if (key == "Src Rank" || key == "Dst Rank") number = &facts.peer;
  event_.communicates = true;
  if (number != nullptr) {
    int64_t value = 0;
    if (json_.integer(value) && value >= 0) *number = value;
    return;
  }
  const bool is_function = key == "Collective name", is_dtype = key == "dtype";
  if (json_.peek() != '"') return json_.skip_value();
  const std::string_view text = json_.string();
  if (text.empty()) return;
  if (is_function) {
    facts.function = collective_function(text);
  } else if (is_dtype) {
    facts.dtype = printable(text, 40);
  } else {
    // Group name and its ranks: the same on all ranks of the group. 31 bits keep it readable.
    const uint64_t mixed = static_cast<uint64_t>(facts.communicator.value_or(0)) ^ hash_of(text);
    facts.communicator = static_cast<int64_t>(mixed & 0x7fffffff);
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
      // Writers without categories: what ran on a stream is told by its arguments.
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
    return refuse("bad_time", "its ts or dur is no usable number");
  }
  if (activity.end_ns < activity.start_ns)
    return refuse("negative_duration", "its duration is negative");
  if (event_.time == 0 && event_.duration == 0) return builder_.lose("zero_timestamp");
  if (event_.name.empty()) return refuse("no_name", "it has no name");
  note_span(activity.start_ns, activity.end_ns);
  activity.kind = event_.category == Category::copy ? GpuKind::copy : GpuKind::kernel;
  activity.correlation = event_.correlation;
  activity.copy_bytes = event_.bytes;
  activity.stream =
      builder_.gpu_stream(event_.device >= 0 ? event_.device : event_.process, event_.context,
                          event_.stream >= 0 ? event_.stream : event_.thread);
  activity.name = builder_.kernel_name(event_.name);
  if (event_.graph > 0) activity.graph = static_cast<uint32_t>(event_.graph);
  activity.graph_node = event_.graph_node;
  if (event_.communicates) {
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
  if (category == Category::gpu_annotation) return;  // the host's annotation says the same
  range.range_class = RangeClass::annotation;
  if (category == Category::host_op) range.range_class = RangeClass::op;
  if (category == Category::python) {
    range.range_class = RangeClass::module;
    constexpr std::string_view kPrefix = "nn.Module: ";
    if (name.substr(0, kPrefix.size()) == kPrefix) name.remove_prefix(kPrefix.size());
  }
  note_process();
  range.thread = builder_.thread(event_.process, event_.thread);
  range.name = builder_.range_name(name, range.range_class);
  if (!event_.dims.empty()) range.operands = builder_.operands().add(event_.dims, event_.types);
  if (event_.communicates) {
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
    DeviceFacts facts;
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
