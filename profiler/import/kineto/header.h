// SPDX-License-Identifier: Apache-2.0
// What a Kineto file says of the machine and the run, beside its events.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "profiler/gpu/streams.h"
#include "profiler/import/json_reader.h"

namespace preserve::import {

// "deviceProperties", by number of the device. The array comes next. `left_out`: those after the
// first 1000.
std::map<int64_t, gpu::DeviceFacts> read_device_properties(JsonReader& json, int64_t& left_out);

// Which rank wrote the file: "rank" and "world_size" of the file itself, of PyTorch's own member,
// or of those in which Chrome's format has room for what a writer wants to say.
struct Distribution {
  std::optional<int64_t> rank{}, world_size{};

  // A member of the file, of which the value comes next; false: it is not about that.
  bool read(JsonReader& json, std::string_view key);
};

}  // namespace preserve::import
