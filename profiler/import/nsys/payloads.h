// SPDX-License-Identifier: Apache-2.0
// What NCCL says of a call in the payload of its NVTX range, as Nsight Systems exports it with
// --include-blobs=true: a header of 32 bytes (domain, schema, size), then the fields that tables
// NVTX_PAYLOAD_SCHEMA_ENTRIES describes. NCCL's schema ids change between releases, the names of
// its fields do not. Layout as read by the public tool nsys-ai (MIT).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "profiler/import/nsys/foreign_db.h"

namespace preserve::import {

struct NcclPayload {
  std::optional<int64_t> communicator{}, bytes{}, peer{}, ranks{};
};

class NsysPayloads {
 public:
  explicit NsysPayloads(const ForeignDb& db);
  bool empty() const { return schemas_.empty(); }
  // `data` as bytes or as hexadecimal text; nothing for what is no payload of a known schema.
  std::optional<NcclPayload> decode(int64_t domain, std::string_view data) const;

 private:
  struct Field {
    std::optional<int64_t> NcclPayload::*to;
    size_t offset, bytes;
  };
  std::map<std::pair<int64_t, int64_t>, std::vector<Field>> schemas_;  // by domain and id
};

}  // namespace preserve::import
