// SPDX-License-Identifier: Apache-2.0
// What NVTX's core and its extensions share in the collector: messages in their three encodings,
// event attributes, and the one function that writes an event record.
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <string_view>

#include "profiler/collector/recorder.h"

struct nvtxPayloadData_v1;

namespace preserve::collector {

inline std::string_view bounded(const char* text) {
  // One byte more than kept, so that a cut is noticed.
  return {text, ::strnlen(text, spool::kMaxTextBytes + 1)};
}

// A wide message as UTF-8, cut at the bound of a record.
class Utf8 {
 public:
  explicit Utf8(const wchar_t* text);
  std::string_view view() const { return {bytes_, size_}; }

 private:
  size_t size_ = 0;
  char bytes_[spool::kMaxTextBytes + 4];
};

// The body of an event and the extended payload behind it.
struct Event {
  spool::EventBody body{};
  const nvtxPayloadData_v1* payloads = nullptr;
  size_t payload_count = 0;
};

inline uint16_t domain_number(nvtxDomainHandle_t domain) {
  const auto number = reinterpret_cast<uintptr_t>(domain);
  return number <= UINT16_MAX ? static_cast<uint16_t>(number) : uint16_t{0};  // not one of ours
}
inline size_t skip_slot(uint16_t domain) {
  return domain < kDomainSlots ? domain : kDomainSlots - 1;
}

// A message of any type: text, or the number of a registered string.
class Message {
 public:
  Message(int32_t type, const nvtxMessageValue_t& value);
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  std::string_view text() const { return text_; }
  uint32_t string_id() const { return string_id_; }

 private:
  std::string_view text_;
  uint32_t string_id_ = 0;
  alignas(Utf8) char wide_[sizeof(Utf8)];  // only touched for wide messages
};

class Attributes {
 public:
  explicit Attributes(const nvtxEventAttributes_t* attributes);
  std::string_view text() const { return message_.text(); }
  // nullptr when there is nothing but text.
  const Event* event() const { return has_event_ ? &event_ : nullptr; }

 private:
  Message message_;
  Event event_;
  bool has_event_ = false;
};

bool record_with_event(ThreadLog& log, spool::RecordType type, uint16_t domain,
                       std::string_view text, const Event& event, size_t keep_more);

// Writes one event; false when it was dropped. `keep_more` is what must stay free behind it.
inline bool record_event(ThreadLog& log, spool::RecordType type, uint16_t domain,
                         std::string_view text, const Event* event, size_t keep_more) {
  if (event != nullptr) return record_with_event(log, type, domain, text, *event, keep_more);
  uint8_t flags = 0;
  if (__builtin_expect(text.size() > spool::kMaxTextBytes, 0)) {
    text = text.substr(0, spool::kMaxTextBytes);
    flags = spool::kTextCut;
  }
  const size_t bytes = sizeof(spool::RecordHeader) + spool::padded(text.size());
  char* out = begin_record(log, kNvtx, bytes, keep_more);
  if (out == nullptr) return false;
  *reinterpret_cast<spool::RecordHeader*>(out) = header(type, bytes, text.size(), domain, flags);
  std::memcpy(out + sizeof(spool::RecordHeader), text.data(), text.size());
  end_record(log, bytes);
  return true;
}
// A pop with a payload is larger than the room kept for it: false, and nothing counted, when full.
bool record_pop_with_payload(ThreadLog& log, uint16_t domain, const Event& event);

int push_with_event(uint16_t domain, std::string_view text, const Event& event);
int pop_with_event(uint16_t domain, const Event& event);
void mark_with_event(uint16_t domain, const Event& event);
nvtxRangeId_t start_with_event(uint16_t domain, const Event& event);
void end_with_event(uint16_t domain, nvtxRangeId_t id, const Event& event);

}  // namespace preserve::collector
