// SPDX-License-Identifier: Apache-2.0
// NVTX payloads as JSON: scalars as they are, extended payloads decoded entry by entry with the
// schema that the program registered (NCCL's ids change between releases, its schemas do not lie).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/spool.h"

namespace preserve {

struct PayloadSchema {
  struct Entry {
    uint64_t type, offset;
    uint32_t flags;
    std::string name;
  };
  std::string name;
  uint64_t static_bytes = 0;
  bool enumeration = false;  // then an entry's offset is its value
  bool clipped = false;      // it had more entries than are kept
  std::vector<Entry> entries;
};

// Schemas of one domain number and id.
using PayloadSchemas = std::map<std::pair<uint16_t, uint64_t>, PayloadSchema>;

// From the blob of a definition; entries that do not fit are left out, and those after the 256th:
// each event repeats them.
PayloadSchema read_schema(std::string_view name, const spool::DefinitionBody& body,
                          std::string_view blob, bool enumeration);

// JSON object or number as text; empty when there is no payload.
std::string payload_json(const spool::EventBody& body, std::string_view blob, uint16_t domain,
                         const PayloadSchemas& schemas);

}  // namespace preserve
