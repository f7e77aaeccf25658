// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/header.h"

#include "common/text.h"

namespace preserve::import {
namespace {

constexpr size_t kDeviceLimit = 1000;  // each rank of the file gets them all

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

bool holds_distribution(std::string_view key) {
  return key == "distributedInfo" || key == "metadata" || key == "otherData";
}

Distribution read_distribution(JsonReader& json) {
  Distribution own;
  json.begin_object();
  std::string_view key;
  while (json.next_key(key)) {
    int64_t value = 0;
    if (key == "rank") {
      if (json.integer(value) && value >= 0) own.rank = value;
    } else if (key == "world_size") {
      if (json.integer(value) && value > 0) own.world_size = value;
    } else {
      json.skip_value();
    }
  }
  return own;
}

}  // namespace preserve::import
