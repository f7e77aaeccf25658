// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/nccl_payload.h"

#include <nlohmann/json.hpp>

#include "profiler/gpu/records.h"

namespace preserve::cuda {
namespace {

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

NcclPayload read_nccl_payload(std::string_view range, std::string_view json) {
  NcclPayload out;
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, false);
  // One event may carry several payloads; NCCL's carry one.
  const nlohmann::json& payload = parsed.is_array() && !parsed.empty() ? parsed[0] : parsed;
  if (!payload.is_object()) return out;
  LibraryCall call;
  for (const auto& [key, value] : payload.items()) {
    if (!value.is_number_integer()) continue;
    const std::string name = gpu::lower_case(key);
    const bool fits = value.is_number_unsigned() || value.get<int64_t>() >= 0;
    const uint64_t number = fits ? value.get<uint64_t>() : 0;
    if (name == "nccl communicator id") {
      out.communicator = number;
      if (number != 0) call.communicator = static_cast<int64_t>(number);
    } else if (has(name, "message size")) {
      if (fits && number <= INT64_MAX) call.bytes = static_cast<int64_t>(number);
    } else if (has(name, "peer") || name == "root") {
      if (fits && number <= INT32_MAX) call.peer = static_cast<int64_t>(number);
    } else if (has(name, "no. of ranks") || has(name, "number of ranks") || has(name, "nranks")) {
      if (number <= INT32_MAX) out.ranks = static_cast<uint32_t>(number);
    }
  }
  call.function = gpu::collective_function(range);
  if (call.bytes && !call.function.empty()) out.call = std::move(call);
  return out;
}

}  // namespace preserve::cuda
