// SPDX-License-Identifier: Apache-2.0
#include <new>

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#include "hooks/nvtx/nvtx.h"

namespace preserve::collector {

Utf8::Utf8(const wchar_t* text) {
  for (; text != nullptr && *text != L'\0' && size_ < spool::kMaxTextBytes; ++text) {
    const auto code = static_cast<uint32_t>(*text);
    auto put = [this](uint32_t byte) { bytes_[size_++] = static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xc0 | code >> 6);
      put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      put(0xe0 | code >> 12);
      put(0x80 | (code >> 6 & 0x3f));
      put(0x80 | (code & 0x3f));
    } else if (code < 0x110000) {
      put(0xf0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3f));
      put(0x80 | (code >> 6 & 0x3f));
      put(0x80 | (code & 0x3f));
    } else {
      put('?');
    }
  }
}

Message::Message(int32_t type, const nvtxMessageValue_t& value) {
  switch (type) {
    case NVTX_MESSAGE_TYPE_ASCII:
      if (value.ascii != nullptr) text_ = bounded(value.ascii);
      break;
    case NVTX_MESSAGE_TYPE_UNICODE:
      text_ = (new (wide_) Utf8(value.unicode))->view();
      break;
    case NVTX_MESSAGE_TYPE_REGISTERED:
      string_id_ = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(value.registered));
      break;
    default:
      break;
  }
}

namespace {

const nvtxMessageValue_t kNoMessage{};

}  // namespace

Attributes::Attributes(const nvtxEventAttributes_t* attributes)
    : message_(attributes == nullptr ? NVTX_MESSAGE_UNKNOWN : attributes->messageType,
               attributes == nullptr ? kNoMessage : attributes->message) {
  if (attributes == nullptr) return;
  spool::EventBody& body = event_.body;
  body.string_id = message_.string_id();
  body.category = attributes->category;
  body.payload_type = static_cast<uint32_t>(attributes->payloadType);
  switch (attributes->payloadType) {
    case NVTX_PAYLOAD_UNKNOWN:
      break;
    case NVTX_PAYLOAD_TYPE_UNSIGNED_INT32:
    case NVTX_PAYLOAD_TYPE_INT32:
    case NVTX_PAYLOAD_TYPE_FLOAT:  // the other half of the union is undefined
      body.payload = attributes->payload.uiValue;
      break;
    case NVTX_PAYLOAD_TYPE_EXT:  // NCCL: reserved0 counts nvtxPayloadData_t
      event_.payloads =
          reinterpret_cast<const nvtxPayloadData_t*>(uintptr_t{attributes->payload.ullValue});
      event_.payload_count =
          attributes->reserved0 > 0 ? static_cast<size_t>(attributes->reserved0) : 0;
      break;
    default:
      body.payload = attributes->payload.ullValue;
  }
  has_event_ = body.string_id != 0 || body.category != 0 || body.payload_type != 0;
}

namespace {

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

void fill(char* out, spool::RecordType type, uint16_t domain, std::string_view text,
          const Event& event, const BlobSize& blob, uint8_t flags) {
  const size_t bytes = record_bytes(text, blob);
  if (blob.left_out) flags |= spool::kBlobLeftOut;
  *reinterpret_cast<spool::RecordHeader*>(out) =
      header(type, bytes, text.size(), domain, flags | spool::kHasEvent);
  out += sizeof(spool::RecordHeader);
  spool::EventBody body = event.body;
  body.blob_bytes = static_cast<uint32_t>(blob.bytes);
  std::memcpy(out, &body, sizeof(body));
  out += sizeof(body);
  std::memcpy(out, text.data(), text.size());
  out += spool::padded(text.size());
  for (size_t i = 0; blob.bytes > 0 && i < event.payload_count; ++i) {
    const nvtxPayloadData_t& part = event.payloads[i];
    const spool::BlobHeader head{part.schemaId, part.size};
    std::memcpy(out, &head, sizeof(head));
    std::memcpy(out + sizeof(head), part.payload, part.size);
    out += sizeof(head) + spool::padded(part.size);
  }
}

}  // namespace

bool record_with_event(ThreadLog& log, spool::RecordType type, uint16_t domain,
                       std::string_view text, const Event& event, size_t keep_more) {
  uint8_t flags = 0;
  if (text.size() > spool::kMaxTextBytes) {
    text = text.substr(0, spool::kMaxTextBytes);
    flags = spool::kTextCut;
  }
  const BlobSize blob = blob_size(event);
  const size_t bytes = record_bytes(text, blob);
  char* out = begin_record(log, kNvtx, bytes, keep_more);
  if (out == nullptr) return false;
  fill(out, type, domain, text, event, blob, flags);
  end_record(log, bytes);
  return true;
}

bool record_pop_with_payload(ThreadLog& log, uint16_t domain, const Event& event) {
  const BlobSize blob = blob_size(event);
  const size_t bytes = record_bytes({}, blob);
  char* out = log.ring.reserve(bytes, log.open_pushes * kPopBytes + 8);
  if (out == nullptr) return false;
  log.count(log.received[kNvtx]);
  fill(out, spool::RecordType::pop, domain, {}, event, blob, 0);
  end_record(log, bytes);
  return true;
}

}  // namespace preserve::collector
