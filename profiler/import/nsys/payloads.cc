// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/nsys/payloads.h"

#include <cstring>

#include "profiler/import/json_scan.h"

namespace preserve::import {
namespace {

constexpr size_t kHeaderBytes = 32, kSchemaAt = 8;
constexpr size_t kPayloadLimit = 1 << 16;
constexpr size_t kSchemaLimit = 10'000;

// Of NVTX's types of integers; 0: no integer.
size_t bytes_of_type(int64_t type) {
  switch (type) {
    case 5:   // int
    case 6:   // unsigned int
    case 15:  // int32
    case 16:  // uint32
      return 4;
    case 7:   // long
    case 8:   // unsigned long
    case 9:   // long long
    case 10:  // unsigned long long
    case 17:  // int64
    case 18:  // uint64
    case 22:  // size_t
      return 8;
    default:
      return 0;
  }
}

std::optional<int64_t> NcclPayload::*field_named(std::string_view name) {
  if (name == "NCCL communicator ID") return &NcclPayload::communicator;
  if (name == "Message size [bytes]") return &NcclPayload::bytes;
  if (name == "Peer rank" || name == "Root") return &NcclPayload::peer;
  if (name == "No. of ranks") return &NcclPayload::ranks;
  return nullptr;
}

// "0A1f..." as bytes; what is no such text comes back as it is.
std::string from_hexadecimal(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return std::string(text);
    bytes += static_cast<char>(high * 16 + low);
  }
  return text.size() % 2 == 0 ? bytes : std::string(text);
}

}  // namespace

NsysPayloads::NsysPayloads(const ForeignDb& db) {
  const std::string table = "NVTX_PAYLOAD_SCHEMA_ENTRIES";
  const auto columns = columns_of(db, table);
  for (const char* needed : {"domainId", "schemaId", "type", "name", "offset"}) {
    if (columns.count(needed) == 0) return;
  }
  Rows rows(db, select_of(columns, table, {"domainId", "schemaId", "type", "name", "offset"}));
  while (rows.next() && schemas_.size() < kSchemaLimit) {
    const auto to = field_named(rows.text(3));
    const size_t bytes = bytes_of_type(rows.integer(2));
    const int64_t offset = rows.integer(4);  // NULL: 0
    if (to == nullptr || bytes == 0 || offset < 0 || offset > static_cast<int64_t>(kPayloadLimit)) {
      continue;
    }
    auto& fields = schemas_[{rows.integer(0), rows.integer(1)}];
    // Each process of the export registers the same schemas.
    std::erase_if(fields, [&](const Field& known) { return known.to == to; });
    fields.push_back({to, static_cast<size_t>(offset), bytes});
  }
}

std::optional<NcclPayload> NsysPayloads::decode(int64_t domain, std::string_view data) const {
  if (data.size() > 2 * (kHeaderBytes + kPayloadLimit)) return std::nullopt;
  const std::string bytes = from_hexadecimal(data);
  if (bytes.size() < kHeaderBytes) return std::nullopt;
  uint32_t schema = 0;
  std::memcpy(&schema, bytes.data() + kSchemaAt, sizeof(schema));
  const auto fields = schemas_.find({domain, schema});
  if (fields == schemas_.end()) return std::nullopt;
  NcclPayload payload;
  for (const Field& field : fields->second) {
    if (kHeaderBytes + field.offset + field.bytes > bytes.size()) continue;
    uint64_t value = 0;  // little-endian, as this machine
    std::memcpy(&value, bytes.data() + kHeaderBytes + field.offset, field.bytes);
    payload.*field.to = static_cast<int64_t>(value & INT64_MAX);
  }
  return payload;
}

}  // namespace preserve::import
