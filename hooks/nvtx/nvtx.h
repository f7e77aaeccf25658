// SPDX-License-Identifier: Apache-2.0
// What the entry points of NVTX's core and of its extensions share: messages in their three
// encodings, event attributes, numbers.
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <string_view>

#include "common/no_copy.h"
#include "hooks/listener.h"

namespace preserve::hooks {

inline std::string_view bounded(const char* text) {
  if (text == nullptr) return {};
  // One byte more than kept, so that a cut is noticed.
  return {text, ::strnlen(text, nvtx::kMaxTextBytes + 1)};
}

// A narrow message, which may be nullptr, as Utf8 is a wide one.
class Bounded {
 public:
  explicit Bounded(const char* text) : text_(bounded(text)) {}
  std::string_view view() const { return text_; }

 private:
  const std::string_view text_;
};

// A wide message as UTF-8, cut at nvtx::kMaxTextBytes.
class Utf8 {
 public:
  explicit Utf8(const wchar_t* text);
  std::string_view view() const { return {bytes_, size_}; }

 private:
  size_t size_ = 0;
  char bytes_[nvtx::kMaxTextBytes + 4];
};

inline uint16_t domain_number(nvtxDomainHandle_t domain) {
  const auto number = reinterpret_cast<uintptr_t>(domain);
  return number <= UINT16_MAX ? static_cast<uint16_t>(number) : uint16_t{0};  // not one of ours
}
// A message of any type: text, or the number of a registered string.
class Message : NoCopy {
 public:
  Message(int32_t type, const nvtxMessageValue_t& value);
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
  const nvtx::Event* event() const { return has_event_ ? &event_ : nullptr; }

 private:
  Message message_;
  nvtx::Event event_;
  bool has_event_ = false;
};

// Number for a registered string, resource, schema, heap, region or started range; never 0, unique
// in the process and its children.
uint64_t next_id();

}  // namespace preserve::hooks
