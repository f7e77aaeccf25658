// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/definitions.h"

#include <cstring>

#include "hooks/unnoticed.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/spool_file.h"

namespace preserve::collector {
namespace {

char* lay_out(char* out, const spool::RecordHeader& head, const spool::DefinitionBody& body,
              std::string_view text, const Blob& blob) {
  const size_t bytes = size_t{head.units} * 8;
  std::memset(out + bytes - 8, 0, 8);  // the padding after text and blob
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + sizeof(head), &body, sizeof(body));
  char* tail = out + sizeof(head) + sizeof(body);
  if (!text.empty()) std::memcpy(tail, text.data(), text.size());
  if (blob.bytes > 0) {
    tail += spool::padded(text.size());
    std::memset(tail, 0, blob.bytes);
    blob.write(tail, blob.bytes, blob.source);
  }
  return out + bytes;
}

}  // namespace

bool Definitions::add(const spool::RecordHeader& head, const spool::DefinitionBody& body,
                      std::string_view text, const Blob& blob) {
  const size_t bytes = size_t{head.units} * 8;
  if (!lock_.take()) return false;
  if (memory_ == nullptr) memory_ = static_cast<char*>(map_memory(kBytes));
  const size_t end = end_.load(std::memory_order_relaxed);
  const bool fits = memory_ != nullptr && end + bytes <= kBytes;
  if (fits) {
    lay_out(memory_ + end, head, body, text, blob);
    end_.store(end + bytes, std::memory_order_release);
  }
  lock_.release();
  return fits;
}

std::string_view Definitions::registered_string(uint64_t id) const {
  const size_t end = end_.load(std::memory_order_acquire);
  for (size_t at = 0; at < end;) {
    const auto* head = reinterpret_cast<const spool::RecordHeader*>(memory_ + at);
    const auto* body = reinterpret_cast<const spool::DefinitionBody*>(head + 1);
    if (head->type == spool::RecordType::string && body->id == id) {
      return {reinterpret_cast<const char*>(body + 1), head->text_bytes};
    }
    at += size_t{head->units} * 8;
  }
  return {};
}

bool Definitions::write(SpoolFile& file) {
  const size_t end = end_.load(std::memory_order_acquire);
  if (end == written_) return true;
  if (!file.write_chunk({}, memory_ + written_, end - written_, nullptr, 0)) return false;
  written_ = end;
  return true;
}

// ---------------------------------------------------------------- of this process

Definitions definitions;

namespace {

void record_in_ring(const spool::RecordHeader& head, const spool::DefinitionBody& body,
                    std::string_view text, const Blob& blob) {
  ThreadLog* log = this_thread(kNvtx);
  if (log == nullptr) return;
  char* out = begin_record(*log, kNvtx, size_t{head.units} * 8);
  if (out == nullptr) return;
  lay_out(out, head, body, text, blob);
  end_record(*log, size_t{head.units} * 8);
}

}  // namespace

std::string_view registered_string(uint64_t id) {
  return definitions.registered_string(id);
}

void define(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body,
            std::string_view text, const Blob& blob) {
  if (!recording_wanted()) return;
  if (muted) return count_lost(kNvtx);
  const Unnoticed unnoticed;
  start_over_if_forked();
  text = text.substr(0, spool::kMaxTextBytes);
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(body) + spool::padded(text.size()) +
                       spool::padded(blob.bytes);
  const spool::RecordHeader head = header(type, bytes, text.size(), domain);
  if (!definitions.add(head, body, text, blob)) record_in_ring(head, body, text, blob);
}

void record_definition(spool::RecordType type, uint16_t domain, const spool::DefinitionBody& body) {
  const size_t bytes = sizeof(spool::RecordHeader) + sizeof(body);
  record_in_ring(header(type, bytes, 0, domain), body, {}, {});
}

}  // namespace preserve::collector
