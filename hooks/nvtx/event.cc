// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <new>

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#include "hooks/nvtx/nvtx.h"

namespace preserve::hooks {

Utf8::Utf8(const wchar_t* text) {
  for (; text != nullptr && *text != L'\0' && size_ < nvtx::kMaxTextBytes; ++text) {
    const auto code = std::bit_cast<uint32_t>(*text);
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
      text_ = bounded(value.ascii);
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
  event_.string_id = message_.string_id();
  event_.category = attributes->category;
  event_.payload_type = static_cast<uint32_t>(attributes->payloadType);
  switch (attributes->payloadType) {
    case NVTX_PAYLOAD_UNKNOWN:
      break;
    case NVTX_PAYLOAD_TYPE_UNSIGNED_INT32:
    case NVTX_PAYLOAD_TYPE_INT32:
    case NVTX_PAYLOAD_TYPE_FLOAT:  // the other half of the union is undefined
      event_.payload = attributes->payload.uiValue;
      break;
    case NVTX_PAYLOAD_TYPE_EXT:  // NCCL: reserved0 counts nvtxPayloadData_t
      event_.payloads =
          reinterpret_cast<const nvtxPayloadData_t*>(uintptr_t{attributes->payload.ullValue});
      event_.payload_count =
          attributes->reserved0 > 0 ? static_cast<size_t>(attributes->reserved0) : 0;
      break;
    default:
      event_.payload = attributes->payload.ullValue;
  }
  has_event_ = event_.string_id != 0 || event_.category != 0 || event_.payload_type != 0;
}

}  // namespace preserve::hooks
