// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/payload.h"

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

namespace preserve {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostEntries = 256;  // of a schema

template <typename T>
std::optional<Json> number_at(std::string_view bytes, uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return Json(nullptr);
  }
  return Json(value);
}

// Types of fixed size; pointers and strings cannot be followed outside their process.
std::optional<Json> scalar_at(uint64_t type, std::string_view bytes, uint64_t offset) {
  switch (type) {
    case NVTX_PAYLOAD_ENTRY_TYPE_CHAR:
    case NVTX_PAYLOAD_ENTRY_TYPE_INT8:
      return number_at<int8_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_UCHAR:
    case NVTX_PAYLOAD_ENTRY_TYPE_UINT8:
    case NVTX_PAYLOAD_ENTRY_TYPE_BYTE:
      return number_at<uint8_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_SHORT:
    case NVTX_PAYLOAD_ENTRY_TYPE_INT16:
      return number_at<int16_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_USHORT:
    case NVTX_PAYLOAD_ENTRY_TYPE_UINT16:
      return number_at<uint16_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_INT:
    case NVTX_PAYLOAD_ENTRY_TYPE_INT32:
      return number_at<int32_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_UINT:
    case NVTX_PAYLOAD_ENTRY_TYPE_UINT32:
    case NVTX_PAYLOAD_ENTRY_TYPE_CATEGORY:
    case NVTX_PAYLOAD_ENTRY_TYPE_COLOR_ARGB:
    case NVTX_PAYLOAD_ENTRY_TYPE_PID_UINT32:
    case NVTX_PAYLOAD_ENTRY_TYPE_TID_UINT32:
      return number_at<uint32_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_LONG:
    case NVTX_PAYLOAD_ENTRY_TYPE_LONGLONG:
    case NVTX_PAYLOAD_ENTRY_TYPE_INT64:
      return number_at<int64_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_ULONG:
    case NVTX_PAYLOAD_ENTRY_TYPE_ULONGLONG:
    case NVTX_PAYLOAD_ENTRY_TYPE_UINT64:
    case NVTX_PAYLOAD_ENTRY_TYPE_SIZE:
    case NVTX_PAYLOAD_ENTRY_TYPE_ADDRESS:
    case NVTX_PAYLOAD_ENTRY_TYPE_PID_UINT64:
    case NVTX_PAYLOAD_ENTRY_TYPE_TID_UINT64:
    case NVTX_PAYLOAD_ENTRY_TYPE_SCOPE_ID:
      return number_at<uint64_t>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_FLOAT:
    case NVTX_PAYLOAD_ENTRY_TYPE_FLOAT32:
      return number_at<float>(bytes, offset);
    case NVTX_PAYLOAD_ENTRY_TYPE_DOUBLE:
    case NVTX_PAYLOAD_ENTRY_TYPE_FLOAT64:
      return number_at<double>(bytes, offset);
    default:
      return std::nullopt;
  }
}

std::optional<Json> enumerator_at(const PayloadSchema& schema, std::string_view bytes,
                                  uint64_t offset) {
  auto value = schema.static_bytes == 8   ? number_at<uint64_t>(bytes, offset)
               : schema.static_bytes == 1 ? number_at<uint8_t>(bytes, offset)
               : schema.static_bytes == 2 ? number_at<uint16_t>(bytes, offset)
                                          : number_at<uint32_t>(bytes, offset);
  if (!value) return std::nullopt;
  const auto found = std::ranges::lower_bound(schema.entries, value->get<uint64_t>(), {},
                                              &PayloadSchema::Entry::offset);
  if (found != schema.entries.end() && found->offset == value->get<uint64_t>()) {
    return Json(found->name);
  }
  return value;
}

Json decode(const PayloadSchema& schema, std::string_view bytes, uint16_t domain,
            const PayloadSchemas& schemas) {
  Json object{{"schema", schema.name}};
  uint64_t offset = 0;
  for (const PayloadSchema::Entry& entry : schema.entries) {
    // An offset of 0 after the first entry means "packed after the one before"; only schemas with
    // stated offsets are decoded further, which is what NCCL and the NVTX macros make.
    offset = entry.offset;
    std::optional<Json> value;
    const auto referred = schemas.find({domain, entry.type});
    constexpr uint64_t kIndirect =
        NVTX_PAYLOAD_ENTRY_FLAG_POINTER | NVTX_PAYLOAD_ENTRY_FLAG_IS_ARRAY;
    if ((entry.flags & kIndirect) != 0) {
      value = std::nullopt;
    } else if (referred != schemas.end() && referred->second.enumeration) {
      value = enumerator_at(referred->second, bytes, offset);
    } else {
      value = scalar_at(entry.type, bytes, offset);
    }
    if (value) object[entry.name.empty() ? "unnamed" : entry.name] = *value;
  }
  return object;
}

}  // namespace

PayloadSchema read_schema(std::string_view name, const spool::DefinitionBody& body,
                          std::string_view blob, bool enumeration) {
  PayloadSchema schema;
  schema.name = name;
  schema.static_bytes = body.parent;
  schema.enumeration = enumeration;
  while (blob.size() >= sizeof(spool::SchemaEntry)) {
    schema.clipped = !enumeration && schema.entries.size() == kMostEntries;
    if (schema.clipped) break;
    spool::SchemaEntry entry{};
    std::memcpy(&entry, blob.data(), sizeof(entry));
    blob.remove_prefix(sizeof(entry));
    if (spool::padded(entry.name_bytes) > blob.size()) break;
    schema.entries.push_back(
        {entry.type, entry.offset, entry.flags, std::string(blob.substr(0, entry.name_bytes))});
    blob.remove_prefix(spool::padded(entry.name_bytes));
  }
  // An enumerator is looked for by its value; of equal ones the first counts.
  if (enumeration) {
    std::ranges::stable_sort(schema.entries, {}, &PayloadSchema::Entry::offset);
  }
  return schema;
}

std::string payload_json(const spool::EventBody& body, std::string_view blob, uint16_t domain,
                         const PayloadSchemas& schemas) {
  Json value;
  switch (body.payload_type) {
    case NVTX_PAYLOAD_UNKNOWN:
      return {};
    case NVTX_PAYLOAD_TYPE_UNSIGNED_INT64:
      value = body.payload;
      break;
    case NVTX_PAYLOAD_TYPE_INT64:
      value = static_cast<int64_t>(body.payload);
      break;
    case NVTX_PAYLOAD_TYPE_UNSIGNED_INT32:
      value = static_cast<uint32_t>(body.payload);
      break;
    case NVTX_PAYLOAD_TYPE_INT32:
      value = static_cast<int32_t>(body.payload);
      break;
    case NVTX_PAYLOAD_TYPE_DOUBLE:
      value = std::bit_cast<double>(body.payload);
      break;
    case NVTX_PAYLOAD_TYPE_FLOAT:
      value = std::bit_cast<float>(static_cast<uint32_t>(body.payload));
      break;
    case spool::kPayloadBlob: {
      value = Json::array();
      while (blob.size() >= sizeof(spool::BlobHeader)) {
        spool::BlobHeader head{};
        std::memcpy(&head, blob.data(), sizeof(head));
        blob.remove_prefix(sizeof(head));
        if (head.bytes > blob.size()) break;
        const auto schema = schemas.find({domain, head.schema_id});
        if (schema != schemas.end() && !schema->second.enumeration) {
          value.push_back(decode(schema->second, blob.substr(0, head.bytes), domain, schemas));
        } else {
          value.push_back(Json{{"schema_id", head.schema_id}, {"bytes", head.bytes}});
        }
        blob.remove_prefix(std::min<size_t>(spool::padded(head.bytes), blob.size()));
      }
      break;
    }
    default:
      return {};
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace preserve
