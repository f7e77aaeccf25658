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

struct Distribution {
  std::optional<int64_t> rank{}, world_size{};
};
// Whether a member may hold it: PyTorch's own, and those in which Chrome's format has room for what
// a writer wants to say.
bool holds_distribution(std::string_view key);
// Of that member; the object comes next.
Distribution read_distribution(JsonReader& json);

}  // namespace preserve::import
