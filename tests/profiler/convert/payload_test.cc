// SPDX-License-Identifier: Apache-2.0
// Payloads of events, decoded with schemas of any size.
#include "profiler/convert/payload.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace preserve {
namespace {

constexpr uint64_t kUint8 = 12;  // NVTX_PAYLOAD_ENTRY_TYPE_UINT8

template <typename T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Entries e0, e1, ... of one byte each, the i-th at i or with value i.
PayloadSchema schema_of(size_t entries, bool enumeration) {
  std::string blob;
  for (size_t i = 0; i < entries; ++i) {
    const std::string name = "e" + std::to_string(i);
    spool::SchemaEntry entry{};
    entry.type = kUint8;
    entry.offset = i;
    entry.name_bytes = static_cast<decltype(entry.name_bytes)>(name.size());
    append(blob, entry);
    blob += name;
    blob.resize(spool::padded(blob.size()));
  }
  spool::DefinitionBody body{};
  body.parent = enumeration ? 2 : entries;
  return read_schema("s", body, blob, enumeration);
}

// The one object of an event whose payload is `bytes` bytes of schema 5.
nlohmann::json decoded(const PayloadSchema& schema, size_t bytes) {
  std::string blob;
  spool::BlobHeader head{};
  head.schema_id = 5;
  head.bytes = static_cast<decltype(head.bytes)>(bytes);
  append(blob, head);
  blob.resize(blob.size() + spool::padded(bytes), '\1');
  spool::EventBody body{};
  body.payload_type = spool::kPayloadBlob;
  return nlohmann::json::parse(payload_json(body, blob, 3, {{{3, 5}, schema}})).at(0);
}

TEST(Payload, SchemaOfTooManyEntriesIsClipped) {
  const PayloadSchema most = schema_of(256, false), more = schema_of(257, false);
  EXPECT_FALSE(most.clipped);
  EXPECT_TRUE(more.clipped);
  for (const PayloadSchema& schema : {most, more}) {
    const nlohmann::json object = decoded(schema, 300);
    EXPECT_EQ(object.size(), 257U) << "the name of the schema, and its entries";
    EXPECT_EQ(object.at("e255"), 1);
  }
}

// Values are looked up one by one, so there may be many; as the schema of a whole payload it would
// repeat them in each event.
TEST(Payload, EnumerationIsNoSchemaOfAPayload) {
  const PayloadSchema enumeration = schema_of(1000, true);
  EXPECT_FALSE(enumeration.clipped);
  EXPECT_EQ(enumeration.entries.size(), 1000U);
  EXPECT_EQ(decoded(enumeration, 8), (nlohmann::json{{"schema_id", 5}, {"bytes", 8}}));
}

}  // namespace
}  // namespace preserve
