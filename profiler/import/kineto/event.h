// SPDX-License-Identifier: Apache-2.0
// One event of a Chrome trace, as far as the importer uses it: text -> Event. What an event is of
// no use for is recognised as early as possible and the rest of it passed over.
#pragma once

#include <cstdint>
#include <string>

#include "profiler/gpu/records.h"
#include "profiler/import/json_reader.h"

namespace preserve::import {

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

struct EventNumbers {
  char phase = 'X';
  Category category = Category::none;
  int64_t process = 0, thread = 0;
  int64_t time = 0, duration = 0;  // whole part, in the unit of the file
  int time_thousandths = 0, duration_thousandths = 0;
  bool has_time = false, has_duration = false, good_time = true, good_duration = true;
  int64_t correlation = 0, device = -1, context = 0, stream = -1, bytes = -1;
  int64_t graph = 0, graph_node = -1;
  bool communicates = false;
};

// What is kept of one event. Strings keep their capacity from event to event.
struct Event : EventNumbers {
  std::string name, dims, types, text;
  std::string category_text;           // of a category that is not known
  std::string process_text;            // of a process that is a word, not a number
  std::string task_type;               // of Ascend's tasks
  std::string kernel;                  // that a call of HIP launches
  gpu::CollectiveFacts communication;  // empty unless `communicates`

  void clear() {
    if (communicates) communication = {};
    static_cast<EventNumbers&>(*this) = {};
    for (std::string* each :
         {&name, &dims, &types, &text, &category_text, &process_text, &task_type, &kernel}) {
      each->clear();
    }
  }
};

// An event that begins and the one where it ends, as one with a duration.
Event joined(Event begin, const Event& end);
// What an event says that it is: "of category 'COLL' in 'python' (phase b)".
std::string description_of(const Event& event, std::string_view process_name);

// Reads the object that comes next. false for an event of no use, all of which was passed over.
bool read_event(JsonReader& json, Event& event);

}  // namespace preserve::import
