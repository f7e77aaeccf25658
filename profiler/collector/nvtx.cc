// SPDX-License-Identifier: Apache-2.0
// What NVTX reports, as spool records: ranges and marks in the ring of the calling thread,
// definitions in the log of definitions.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#include "hooks/listener.h"
#include "profiler/collector/recorder.h"

namespace preserve::collector {
namespace {

using nvtx::Event;
using spool::RecordType;
static_assert(nvtx::kMaxTextBytes == spool::kMaxTextBytes);
static_assert(spool::kPayloadBlob == static_cast<uint32_t>(NVTX_PAYLOAD_TYPE_EXT));

// ---------------------------------------------------------------- records

struct BlobSize {
  size_t bytes = 0;
  bool left_out = false;
};

BlobSize blob_size(const Event& event) {
  BlobSize size;
  if (event.payloads == nullptr) return size;
  for (size_t i = 0; i < event.payload_count; ++i) {
    const nvtxPayloadData_t& part = event.payloads[i];
    // A payload without a size (null-terminated, or of static size by its schema) is not copied.
    const bool unknown = part.payload == nullptr || part.size == SIZE_MAX;
    if (unknown || part.size > spool::kMaxBlobBytes ||
        size.bytes + sizeof(spool::BlobHeader) + spool::padded(part.size) > spool::kMaxBlobBytes) {
      size.left_out = true;
      break;
    }
    size.bytes += sizeof(spool::BlobHeader) + spool::padded(part.size);
  }
  if (size.left_out) size.bytes = 0;
  return size;
}

size_t record_bytes(std::string_view text, const BlobSize& blob) {
  return sizeof(spool::RecordHeader) + sizeof(spool::EventBody) + spool::padded(text.size()) +
         blob.bytes;
}

void fill(char* out, RecordType type, uint16_t domain, uint64_t range, std::string_view text,
          const Event& event, const BlobSize& blob, uint8_t flags) {
  const size_t bytes = record_bytes(text, blob);
  if (blob.left_out) flags |= spool::kBlobLeftOut;
  *reinterpret_cast<spool::RecordHeader*>(out) =
      header(type, bytes, text.size(), domain, flags | spool::kHasEvent);
  out += sizeof(spool::RecordHeader);
  const spool::EventBody body{
      range,          event.payload,      event.string_id,
      event.category, event.payload_type, static_cast<uint32_t>(blob.bytes)};
  std::memcpy(out, &body, sizeof(body));
  out += sizeof(body);
  copy_text(out, text);
  out += spool::padded(text.size());
  for (size_t i = 0; blob.bytes > 0 && i < event.payload_count; ++i) {
    const nvtxPayloadData_t& part = event.payloads[i];
    const spool::BlobHeader head{part.schemaId, part.size};
    std::memcpy(out, &head, sizeof(head));
    std::memcpy(out + sizeof(head), part.payload, part.size);
    out += sizeof(head) + spool::padded(part.size);
  }
}

// Cuts the text where it is too long.
uint8_t cut(std::string_view& text) {
  if (__builtin_expect(text.size() <= spool::kMaxTextBytes, 1)) return 0;
  text = text.substr(0, spool::kMaxTextBytes);
  return spool::kTextCut;
}

// `keep_more` is what must stay free behind the record. False when it was dropped.
[[gnu::noinline]] bool record_event(ThreadLog& log, RecordType type, uint16_t domain,
                                    uint64_t range, std::string_view text, const Event& event,
                                    size_t keep_more) {
  const uint8_t flags = cut(text);
  const BlobSize blob = blob_size(event);
  const size_t bytes = record_bytes(text, blob);
  char* out = begin_record(log, kNvtx, bytes, keep_more);
  if (out == nullptr) return false;
  fill(out, type, domain, range, text, event, blob, flags);
  end_record(log, bytes);
  return true;
}

// Part of each caller: of a pop, which has no text, much of it goes away.
[[gnu::always_inline]] inline bool record_text(ThreadLog& log, RecordType type, uint16_t domain,
                                               std::string_view text, size_t keep_more) {
  const uint8_t flags = cut(text);
  const size_t bytes = sizeof(spool::RecordHeader) + spool::padded(text.size());
  char* out = begin_record(log, kNvtx, bytes, keep_more);
  if (out == nullptr) return false;
  *reinterpret_cast<spool::RecordHeader*>(out) = header(type, bytes, text.size(), domain, flags);
  copy_text(out + sizeof(spool::RecordHeader), text);
  end_record(log, bytes);
  return true;
}

[[gnu::always_inline]] inline bool record(ThreadLog& log, RecordType type, uint16_t domain,
                                          std::string_view text, const Event* event,
                                          size_t keep_more) {
  return event != nullptr ? record_event(log, type, domain, 0, text, *event, keep_more)
                          : record_text(log, type, domain, text, keep_more);
}

// Larger than the room kept for it: where it does not fit the payload is left out.
[[gnu::noinline]] void record_pop_with_payload(ThreadLog& log, uint16_t domain,
                                               const Event& event) {
  const BlobSize blob = blob_size(event);
  const size_t bytes = record_bytes({}, blob);
  char* out = log.ring.reserve(bytes, log.open_pushes * kPopBytes + 8);
  if (out == nullptr) {
    record_text(log, RecordType::pop, domain, {}, 0);
    return;
  }
  log.count(log.received[kNvtx]);
  fill(out, RecordType::pop, domain, 0, {}, event, blob, 0);
  end_record(log, bytes);
}

// A start or an end, which may be on two threads.
void record_open_range(ThreadLog& log, RecordType type, uint16_t domain, uint64_t range,
                       std::string_view text, const Event* event) {
  record_event(log, type, domain, range, text, event == nullptr ? Event{} : *event, 0);
}

// Slow, but only in recordings that follow ranges.
[[gnu::noinline]] void report_range(RangeWatch watch, RangeEvent::Kind kind, std::string_view text,
                                    const Event* event, uint64_t range) {
  const uint32_t id = event == nullptr ? 0 : event->string_id;
  watch({kind, id == 0 ? text : registered_string(id), range});
}
inline void watch_range(RangeEvent::Kind kind, std::string_view text, const Event* event,
                        uint64_t range = 0) {
  const RangeWatch watch = range_watch.load(std::memory_order_relaxed);
  if (__builtin_expect(watch != nullptr, 0)) report_range(watch, kind, text, event, range);
}

// Domains beyond the last slot share it.
size_t skip_slot(uint16_t domain) {
  return domain < kDomainSlots ? domain : kDomainSlots - 1;
}

void count_sampled(ThreadLog& log) {
  log.count(log.received[kNvtx]);
  log.count(log.sampled);
}

// A range is not recorded: a record of it, or of what is inside, counts as left out or as dropped.
void count_skipped(ThreadLog& log, size_t slot) {
  log.count(log.received[kNvtx]);
  log.count((log.sampled_out >> slot & 1) != 0 ? log.sampled : log.dropped[kNvtx]);
}

inline bool to_record(ThreadLog& log, uint16_t domain, std::string_view text, const Event* event) {
  if (__builtin_expect(sample_first == 0, 1)) return true;
  return log.names.next(domain, event == nullptr ? 0 : event->string_id, text);
}

int skip_push(ThreadLog& log, size_t slot) {
  ++log.skipped[slot];
  ++log.skipped_pushes;
  return static_cast<int>(log.open_pushes + log.skipped_pushes - 1);
}

[[gnu::always_inline]] inline int record_push(ThreadLog& log, uint16_t domain,
                                              std::string_view text, const Event* event) {
  if (record(log, RecordType::push, domain, text, event, kPopBytes)) {
    return static_cast<int>(log.open_pushes++);
  }
  const size_t slot = skip_slot(domain);
  log.sampled_out &= ~(uint64_t{1} << slot);
  return skip_push(log, slot);
}

// Where not every push is recorded.
[[gnu::noinline]] int choose_push(ThreadLog& log, uint16_t domain, std::string_view text,
                                  const Event* event) {
  const size_t slot = skip_slot(domain);
  // Inside a refused range everything of its domain is refused, so that pops find their pushes.
  if (log.skipped[slot] == 0) {
    if (to_record(log, domain, text, event)) return record_push(log, domain, text, event);
    log.sampled_out |= uint64_t{1} << slot;
  }
  count_skipped(log, slot);
  return skip_push(log, slot);
}

// In the number of a range that was left out: its end is left out too, on whatever thread it comes.
constexpr uint64_t kLeftOut = uint64_t{1} << 63;

// ---------------------------------------------------------------- schemas

constexpr size_t kMaxEntriesBytes = 16 << 10;  // ~300 entries; NCCL's largest has 5

// Schemas and enumerations as the blob of a definition. Without `out` they are only counted.
class EntryList {
 public:
  EntryList(char* out, size_t room) : out_(out), room_(room) {}
  void add(uint64_t type, uint64_t offset, uint64_t flags, const char* name) {
    const std::string_view text =
        name == nullptr ? std::string_view() : std::string_view(name, ::strnlen(name, 255));
    const size_t bytes = sizeof(spool::SchemaEntry) + spool::padded(text.size());
    if (size_ + bytes > room_) return;
    size_ += bytes;
    ++count_;
    if (out_ == nullptr) return;
    char* out = out_ + size_ - bytes;
    const spool::SchemaEntry entry{type, offset, static_cast<uint32_t>(flags),
                                   static_cast<uint32_t>(text.size())};
    std::memcpy(out, &entry, sizeof(entry));
    std::memcpy(out + sizeof(entry), text.data(), text.size());
  }
  size_t bytes() const { return size_; }
  uint64_t count() const { return count_; }

 private:
  char* out_;
  size_t room_;
  size_t size_ = 0;
  uint64_t count_ = 0;
};

void list(const nvtxPayloadSchemaAttr_t& schema, EntryList& entries) {
  if ((schema.fieldMask & NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES) == 0) return;
  for (size_t i = 0; schema.entries != nullptr && i < schema.numEntries; ++i) {
    const nvtxPayloadSchemaEntry_t& entry = schema.entries[i];
    entries.add(entry.type, entry.offset, entry.flags, entry.name);
  }
}
void list(const nvtxPayloadEnumAttr_t& enumeration, EntryList& entries) {
  if ((enumeration.fieldMask & NVTX_PAYLOAD_ENUM_ATTR_FIELD_ENTRIES) == 0) return;
  for (size_t i = 0; enumeration.entries != nullptr && i < enumeration.numEntries; ++i) {
    const nvtxPayloadEnum_t& entry = enumeration.entries[i];
    entries.add(0, entry.value, static_cast<uint64_t>(entry.isFlag), entry.name);
  }
}

template <typename Attributes>
void define_entries(RecordType type, uint16_t domain, uint64_t id, uint64_t size, const char* name,
                    const Attributes& attributes) {
  EntryList counted(nullptr, kMaxEntriesBytes);
  list(attributes, counted);
  const auto write = [](char* out, size_t bytes, const void* source) {
    EntryList written(out, bytes);
    list(*static_cast<const Attributes*>(source), written);
  };
  const std::string_view text = name == nullptr
                                    ? std::string_view()
                                    : std::string_view(name, ::strnlen(name, spool::kMaxTextBytes));
  define(type, domain, {id, size, 0, counted.count()}, text, {counted.bytes(), write, &attributes});
}

// Of each nvtx::Definition.
constexpr RecordType kDefinitions[] = {RecordType::string,
                                       RecordType::domain,
                                       RecordType::category,
                                       RecordType::thread_name,
                                       RecordType::resource,
                                       RecordType::heap,
                                       RecordType::heap_unregister,
                                       RecordType::heap_reset,
                                       RecordType::region,
                                       RecordType::region_resize,
                                       RecordType::region_unregister,
                                       RecordType::region_name};
static_assert(kDefinitions[static_cast<size_t>(nvtx::Definition::region_name)] ==
              RecordType::region_name);

}  // namespace
}  // namespace preserve::collector

namespace preserve {

using namespace collector;

bool listener::nvtx_wanted() {
  return recording_wanted();
}

int listener::push(uint16_t domain, std::string_view text, const nvtx::Event* event) {
  watch_range(RangeEvent::push, text, event);
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return NVTX_NO_PUSH_POP_TRACKING;
  if (__builtin_expect((log->skipped_pushes | sample_first) != 0, 0)) {
    return choose_push(*log, domain, text, event);
  }
  return record_push(*log, domain, text, event);
}

int listener::pop(uint16_t domain, const nvtx::Event* event) {
  watch_range(RangeEvent::pop, {}, nullptr);
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return NVTX_NO_PUSH_POP_TRACKING;
  const size_t slot = skip_slot(domain);
  if (__builtin_expect(log->skipped_pushes != 0, 0) && log->skipped[slot] != 0) {
    --log->skipped[slot];
    --log->skipped_pushes;
    count_skipped(*log, slot);
    return static_cast<int>(log->open_pushes + log->skipped_pushes);
  }
  const bool matched = log->open_pushes > 0;
  if (matched) --log->open_pushes;  // gives back the room that was kept for this record
  if (__builtin_expect(event != nullptr, 0)) {
    record_pop_with_payload(*log, domain, *event);
  } else {
    record_text(*log, spool::RecordType::pop, domain, {}, 0);
  }
  return matched ? static_cast<int>(log->open_pushes) : NVTX_NO_PUSH_POP_TRACKING;
}

void listener::mark(uint16_t domain, std::string_view text, const nvtx::Event* event) {
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return;
  if (!to_record(*log, domain, text, event)) return count_sampled(*log);
  record(*log, spool::RecordType::mark, domain, text, event, 0);
}

uint64_t listener::start(uint16_t domain, uint64_t range, std::string_view text,
                         const nvtx::Event* event) {
  watch_range(RangeEvent::start, text, event, range);
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return range;
  if (!to_record(*log, domain, text, event)) {
    count_sampled(*log);
    return range | kLeftOut;
  }
  record_open_range(*log, spool::RecordType::range_start, domain, range, text, event);
  return range;
}

void listener::end(uint16_t domain, uint64_t range, const nvtx::Event* event) {
  watch_range(RangeEvent::end, {}, nullptr, range & ~kLeftOut);
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return;
  if ((range & kLeftOut) != 0) return count_sampled(*log);
  record_open_range(*log, spool::RecordType::range_end, domain, range, {}, event);
}

// A resize is frequent (a cache that grows with every token), so it goes the way of ordinary
// records.
void listener::define(nvtx::Definition what, uint16_t domain, const nvtx::Numbers& numbers,
                      std::string_view text) {
  const spool::RecordType type = kDefinitions[static_cast<size_t>(what)];
  const spool::DefinitionBody body{numbers.id, numbers.parent, numbers.base, numbers.bytes};
  if (what == nvtx::Definition::region_resize) {
    record_definition(type, domain, body);
  } else {
    collector::define(type, domain, body, text);
  }
}

void listener::define_schema(uint16_t domain, uint64_t id, const nvtxPayloadSchemaAttr_t& schema) {
  const auto has = [&schema](uint64_t field) { return (schema.fieldMask & field) != 0; };
  const char* name = has(NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NAME) ? schema.name : nullptr;
  const uint64_t size =
      has(NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_STATIC_SIZE) ? schema.payloadStaticSize : 0;
  define_entries(spool::RecordType::schema, domain, id, size, name, schema);
}

void listener::define_enumeration(uint16_t domain, uint64_t id,
                                  const nvtxPayloadEnumAttr_t& enumeration) {
  const auto has = [&enumeration](uint64_t field) { return (enumeration.fieldMask & field) != 0; };
  const char* name = has(NVTX_PAYLOAD_ENUM_ATTR_FIELD_NAME) ? enumeration.name : nullptr;
  const uint64_t size =
      has(NVTX_PAYLOAD_ENUM_ATTR_FIELD_SIZE) ? enumeration.sizeOfEnum : sizeof(int);
  define_entries(spool::RecordType::enumeration, domain, id, size, name, enumeration);
}

}  // namespace preserve
