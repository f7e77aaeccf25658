// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/event.h"

#include <fmt/format.h>
#include <array>
#include <charconv>
#include <cstring>
#include <iterator>

#include "common/hash.h"
#include "common/text.h"

namespace preserve::import {
namespace {

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
                                       {"external_correlation", Category::ignored},
                                       {"cuda_event", Category::ignored},
                                       {"xpu_sync", Category::ignored},
                                       {"gpu_pm_counter", Category::ignored},
                                       {"mtia_counters", Category::ignored},
                                       {"hpu_op", Category::kernel},
                                       {"mtia_ccp_events", Category::kernel},
                                       {"gpu_op", Category::kernel}};  // Intel unitrace
  for (const Entry& entry : kEntries) {
    if (entry.text == text) return entry.category;
  }
  // Writers for other accelerators follow the pattern: xpu_driver, hip_runtime, npu_kernel.
  const std::string lower = gpu::lower_case(text.substr(0, 64));
  const auto has = [&](std::string_view part) { return lower.find(part) != std::string::npos; };
  if (lower.ends_with("_runtime") || lower.ends_with("_driver") || has("launch")) {
    return Category::runtime;
  }
  if (has("memcpy") || has("memset")) return Category::copy;
  if (has("kernel")) return Category::kernel;
  return Category::none;
}

// Process and thread ids are numbers, numbers in quotes, or words ("stream 7", "Spans").
int64_t id_of(std::string_view text) {
  const size_t digit = text.find_last_not_of("0123456789") + 1;  // npos + 1 == 0
  int64_t value = 0;
  if (digit < text.size() &&
      std::from_chars(text.data() + digit, text.data() + text.size(), value).ec == std::errc()) {
    return value;
  }
  return static_cast<int64_t>(fnv_hash(text) >> 2);
}

// Members of "args" that are used, those of one first letter together.
enum class As : uint8_t { number, from_zero, id, text, shapes, communication };
struct Argument {
  std::string_view key;
  As as = As::communication;
  int64_t Event::*number = nullptr;
  std::string Event::*text = nullptr;
};
constexpr Argument kArguments[] = {{"correlation", As::number, &Event::correlation},
                                   {"context", As::id, &Event::context},
                                   {"correlation_id", As::from_zero, &Event::correlation},
                                   {"connection_id", As::from_zero, &Event::correlation},
                                   {"count"},
                                   {"stream", As::id, &Event::stream},
                                   {"device", As::id, &Event::device},
                                   {"dtype"},
                                   {"data_type"},
                                   {"bytes", As::number, &Event::bytes},
                                   {"graph id", As::number, &Event::graph},
                                   {"graph node id", As::number, &Event::graph_node},
                                   {"name", As::text, nullptr, &Event::text},
                                   {"labels", As::text, nullptr, &Event::text},
                                   {"Task Type", As::text, nullptr, &Event::task_type},
                                   {"kernel", As::text, nullptr, &Event::kernel},
                                   {"Input Dims", As::shapes, nullptr, &Event::dims},
                                   {"Input dims", As::shapes, nullptr, &Event::dims},
                                   {"Input type", As::shapes, nullptr, &Event::types},
                                   {"In msg nelems"},
                                   {"Src Rank"},
                                   {"Seq"},
                                   {"Dst Rank"},
                                   {"Comms Id"},
                                   {"Collective name"},
                                   {"Group size"},
                                   {"Out msg nelems"},
                                   {"Process Group Name"},
                                   {"Process Group Ranks"}};

// Where those of a letter begin: most keys of an event begin as none of them does.
constexpr std::array<uint8_t, 256> first_arguments() {
  std::array<uint8_t, 256> first{};
  first.fill(std::size(kArguments));
  for (size_t i = std::size(kArguments); i-- > 0;) {
    first[static_cast<unsigned char>(kArguments[i].key.front())] = static_cast<uint8_t>(i);
  }
  return first;
}
constexpr std::array<uint8_t, 256> kFirstArgument = first_arguments();

const Argument* argument_named(std::string_view key) {
  if (key.empty()) return nullptr;
  const char letter = key.front();
  for (size_t i = kFirstArgument[static_cast<unsigned char>(letter)];
       i < std::size(kArguments) && kArguments[i].key.front() == letter; ++i) {
    if (kArguments[i].key == key) return &kArguments[i];
  }
  return nullptr;
}

// Without a call of memcmp, as its length is not known to be a constant elsewhere.
template <size_t N>
bool is(std::string_view text, const char (&word)[N]) {
  return text.size() == N - 1 && std::memcmp(text.data(), word, N - 1) == 0;
}

class EventReader {
 public:
  EventReader(JsonReader& json, Event& event) : json_(json), event_(event) {}
  bool read();

 private:
  bool is_left_out() const;
  int64_t id();
  void read_arguments();
  void read_argument(std::string_view key);
  void read_communication(std::string_view key);

  JsonReader& json_;
  Event& event_;
};

// Known enough to say that the event is of no use; the rest of it need not be looked at.
bool EventReader::is_left_out() const {
  if (event_.phase != 'X' &&
      std::string_view("MBEbS").find(event_.phase) == std::string_view::npos) {
    return true;
  }
  if (event_.category == Category::ignored) return true;
  if (event_.category == Category::python && !event_.name.empty() &&
      !event_.name.starts_with("nn.Module")) {
    return true;
  }
  return false;
}

int64_t EventReader::id() {
  if (json_.peek() == '"') return id_of(json_.string());
  int64_t value = 0;
  return json_.integer(value) ? value : 0;
}

bool EventReader::read() {
  json_.begin_object();
  std::string_view key;
  while (json_.next_key(key)) {
    if (is(key, "ph")) {
      const std::string_view phase =
          json_.peek() == '"' ? json_.string() : (json_.skip_value(), "?");
      event_.phase = phase.size() == 1 ? phase[0] : '?';
    } else if (is(key, "cat") && json_.peek() == '"') {
      const std::string_view text = json_.string();
      event_.category = category_of(text);
      if (event_.category == Category::none) event_.category_text.assign(text);
    } else if (is(key, "name") && json_.peek() == '"') {
      event_.name.assign(json_.string());
    } else if (is(key, "pid")) {
      if (json_.peek() == '"') {
        event_.process_text.assign(json_.string());
        event_.process = id_of(event_.process_text);
      } else {
        event_.process = id();
      }
      continue;
    } else if (is(key, "tid")) {
      event_.thread = id();
      continue;
    } else if (is(key, "ts")) {
      event_.has_time = true;
      event_.good_time = json_.decimal(event_.time, event_.time_thousandths);
      continue;
    } else if (is(key, "dur")) {
      event_.has_duration = true;
      event_.good_duration = json_.decimal(event_.duration, event_.duration_thousandths);
      continue;
    } else if (is(key, "args") && json_.peek() == '{') {
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

void EventReader::read_arguments() {
  json_.begin_object();
  std::string_view key;
  while (json_.next_key(key)) {
    if (event_.category == Category::runtime && key == "correlation") {
      json_.integer(event_.correlation);
      if (event_.name.starts_with("hip")) continue;  // these name the kernel
      json_.skip_rest_of_object();                   // nothing else of a launch is used
      return;
    }
    read_argument(key);
  }
}

void EventReader::read_argument(std::string_view key) {
  const Argument* known = argument_named(key);
  if (known == nullptr) return json_.skip_value();
  switch (known->as) {
    case As::number:
      (void)json_.integer(event_.*known->number);
      return;
    case As::id:
      event_.*known->number = id();
      return;
    case As::from_zero:  // JAX and CANN count from 0, which means none elsewhere
      if (json_.integer(event_.*known->number)) ++(event_.*known->number);
      return;
    case As::text:
      if (json_.peek() != '"') return json_.skip_value();
      (event_.*known->text).assign(json_.string());
      return;
    case As::shapes:
      (event_.*known->text).assign(json_.raw_value());
      return;
    case As::communication:
      return read_communication(key);
  }
}

void EventReader::read_communication(std::string_view key) {
  gpu::CollectiveFacts& facts = event_.communication;
  // Of Ascend's communication; elsewhere these words mean other things.
  if ((key == "count" || key == "data_type") && !event_.name.starts_with("hcom_")) {
    return json_.skip_value();
  }
  std::optional<int64_t>* number = nullptr;
  if (key == "In msg nelems" || key == "count") number = &facts.in_elements;
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
  const bool is_function = key == "Collective name",
             is_dtype = key == "dtype" || key == "data_type";
  if (json_.peek() != '"') return json_.skip_value();
  const std::string_view text = json_.string();
  if (text.empty()) return;
  if (is_function) {
    facts.function = gpu::collective_function(text);
  } else if (is_dtype) {
    facts.dtype = printable(text, 40);
  } else {
    // Group name and its ranks: the same on all ranks of the group. 31 bits keep it readable.
    const uint64_t mixed = static_cast<uint64_t>(facts.communicator.value_or(0)) ^ fnv_hash(text);
    facts.communicator = static_cast<int64_t>(mixed & 0x7fffffff);
  }
}

}  // namespace

Event joined(Event begin, const Event& end) {
  begin.phase = 'X';
  begin.has_duration = end.has_time;
  begin.good_duration = end.good_time;
  begin.duration = end.time - begin.time;
  begin.duration_thousandths = end.time_thousandths - begin.time_thousandths;
  return begin;
}

std::string description_of(const Event& event, std::string_view process_name) {
  std::string text = event.category_text.empty()
                         ? "of no category"
                         : fmt::format("of category '{}'", printable(event.category_text, 40));
  // A path may name people.
  if (!process_name.empty() && process_name.find('/') == std::string_view::npos)
    text += fmt::format(" in '{}'", printable(process_name, 40));
  if (event.phase != 'X') text += fmt::format(" (phase {})", event.phase);
  return text;
}

bool read_event(JsonReader& json, Event& event) {
  event.clear();
  return EventReader(json, event).read();
}

}  // namespace preserve::import
