// SPDX-License-Identifier: Apache-2.0
// What NCCL says in the NVTX payloads of its ranges (src/init_nvtx.cc, nvtx_payload_schemas.h of
// NCCL 2.18 to 2.28), decoded by the schemas that it registers: entries are known by their names,
// never by schema numbers, which move between releases. Buffers and element types are missing.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

struct NcclPayload {
  std::optional<LibraryCall> call{};  // a collective or point-to-point operation
  uint64_t communicator = 0;
  uint32_t ranks = 0;  // of a communicator that was made; 0: unknown
};

// `range`: name of the range, "ncclAllReduce"; `json`: the decoded payload.
NcclPayload read_nccl_payload(std::string_view range, std::string_view json);

}  // namespace preserve::cuda
