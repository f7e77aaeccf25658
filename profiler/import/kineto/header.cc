// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/header.h"

#include "common/text.h"

namespace preserve::import {
namespace {

constexpr size_t kDeviceLimit = 1000;  // each rank of the file gets them all

bool read_number(JsonReader& json, std::string_view key, Distribution& own) {
  if (key != "rank" && key != "world_size") return false;
  int64_t value = 0;
  const bool good = json.integer(value) && value >= (key == "rank" ? 0 : 1);
  if (good) (key == "rank" ? own.rank : own.world_size) = value;
  return true;
}

}  // namespace

std::map<int64_t, gpu::DeviceFacts> read_device_properties(JsonReader& json, int64_t& left_out) {
  std::map<int64_t, gpu::DeviceFacts> devices;
  json.begin_array();
  while (json.next_element()) {
    if (json.peek() != '{') {
      json.skip_value();
      continue;
    }
    gpu::DeviceFacts facts;
    int64_t id = -1, value = 0;
    json.begin_object();
    std::string_view key;
    while (json.next_key(key)) {
      if (key == "id") {
        json.integer(id);
      } else if (key == "name" && json.peek() == '"') {
        facts.name = printable(json.string());
      } else if (key == "totalGlobalMem") {
        if (json.integer(value) && value > 0) facts.memory_bytes = value;
      } else if (key == "numSms") {
        if (json.integer(value) && value > 0) facts.units = value;
      } else {
        json.skip_value();
      }
    }
    if (id < 0) continue;
    if (devices.size() < kDeviceLimit) {
      devices[id] = std::move(facts);
    } else {
      ++left_out;
    }
  }
  return devices;
}

bool Distribution::read(JsonReader& json, std::string_view key) {
  if (read_number(json, key, *this)) return true;
  const bool holds = key == "distributedInfo" || key == "metadata" || key == "otherData";
  if (!holds || json.peek() != '{') return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (!read_number(json, key, *this)) json.skip_value();
  }
  return true;
}

}  // namespace preserve::import
