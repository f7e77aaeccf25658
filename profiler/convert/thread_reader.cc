// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/thread_reader.h"

#include "hooks/mpi/functions.h"
#include "profiler/convert/cuda/nccl_payload.h"

namespace preserve {

using spool::RecordType;

void ThreadReader::read(const std::vector<std::string_view>& chunks, uint32_t tid,
                        uint32_t first_range) {
  tid_ = tid;
  first_range_ = first_range;
  nvtx_ = &image_.nvtx;
  mpi_ = &image_.mpi;
  read_chunks(chunks);
}

void ThreadReader::read_again(const std::vector<std::string_view>& chunks) {
  first_ = false;
  nvtx_ = mpi_ = &counted_before_;
  read_chunks(chunks);
}

void ThreadReader::read_chunks(const std::vector<std::string_view>& chunks) {
  for (const std::string_view chunk : chunks) {
    SpoolCursor cursor(chunk);
    SpoolRecord record;
    while (cursor.next(&record)) read_record(record);
    if (cursor.damaged()) nvtx_->damage_uncounted();
    done_(chunk.size());
  }
}

void ThreadReader::read_record(const SpoolRecord& record) {
  const bool is_cuda = cuda::is_cuda_record(static_cast<uint8_t>(record.head.type));
  if (is_cuda && !first_) return;
  LossCount& count = is_cuda                               ? image_.cuda_calls
                     : record.head.type == RecordType::mpi ? *mpi_
                                                           : *nvtx_;
  ++count.read;
  if (is_definition(record.head.type)) return;  // the image has it
  const std::optional<int64_t> ns = image_.clock.ns(record.head.ticks);
  if (!ns) {
    ++count.damaged;
  } else if (record.head.type == RecordType::mpi) {
    read_mpi(record, *ns);
  } else if (is_cuda) {
    image_.cuda.add(record.head, record.tail, position(*ns));
  } else {
    read_event(record, *ns);
  }
}

cuda::Position ThreadReader::position(int64_t ns) const {
  const uint32_t range = timeline_.innermost();
  return {ns, tid_, range == kNoRange ? 0 : first_range_ + range};
}

std::string ThreadReader::payload(const spool::EventBody& body, std::string_view blob,
                                  uint16_t domain) const {
  return payload_json(body, blob, domain, image_.schemas);
}

// NCCL tells of its operations in the payloads of its ranges.
void ThreadReader::read_nccl(uint32_t range_name, uint16_t domain, const std::string& json,
                             int64_t ns) {
  const auto named = image_.domains.find(domain);
  if (named == image_.domains.end() || named->second != "NCCL") return;
  const cuda::NcclPayload payload = cuda::read_nccl_payload(names_.text(range_name), json);
  if (payload.call) image_.cuda.add(*payload.call, position(ns));
  if (payload.ranks != 0) image_.cuda.set_communicator_ranks(payload.communicator, payload.ranks);
}

uint32_t ThreadReader::event_name(const spool::EventBody& body, std::string_view text) {
  if (body.string_id == 0) return names_.id(text);
  const auto [found, added] = string_names_.try_emplace(body.string_id, 0);
  if (added) found->second = names_.id(image_.string(body.string_id));
  return found->second;
}

uint32_t ThreadReader::domain_name(uint16_t domain) {
  if (domain == 0) return 0;
  const auto [found, added] = domain_names_.try_emplace(domain, 0);
  if (added) {
    const auto named = image_.domains.find(domain);
    found->second = names_.id(named == image_.domains.end() ? "unnamed domain" : named->second);
  }
  return found->second;
}

void ThreadReader::read_event(const SpoolRecord& record, int64_t ns) {
  spool::EventBody body{};
  std::string_view text, blob;
  if (!record.event(&body, &text, &blob)) {
    ++nvtx_->damaged;
    return;
  }
  const uint16_t domain = record.head.domain;
  const bool clipped = (record.head.flags & (spool::kTextCut | spool::kBlobLeftOut)) != 0;
  const bool has_payload = body.payload_type != 0 && first_;
  const bool maybe_nccl = has_payload && body.payload_type == spool::kPayloadBlob;
  switch (record.head.type) {
    case RecordType::push: {
      nvtx_->clipped += clipped ? 1 : 0;
      const uint32_t domain_id = domain_name(domain);
      const uint32_t name = event_name(body, text);
      timeline_.push(ns, name, domain_id);
      if (!has_payload) return;
      std::string json = payload(body, blob, domain);
      if (maybe_nccl) read_nccl(name, domain, json, ns);
      on_payload(timeline_.innermost(), std::move(json));
      return;
    }
    case RecordType::pop: {
      // The payload of a pop belongs to the range that it closes.
      const uint32_t domain_id = domain_name(domain);
      const OpenRange* closing = timeline_.innermost_of(domain_id);
      if (closing == nullptr) {
        ++nvtx_->unmatched;
        return;
      }
      nvtx_->clipped += clipped ? 1 : 0;
      const uint32_t name = closing->name;
      std::string json;
      if (has_payload) {
        json = payload(body, blob, domain);
        on_payload(closing->index, json);
      }
      timeline_.pop(ns, domain_id);
      if (maybe_nccl) read_nccl(name, domain, json, ns);
      return;
    }
    case RecordType::mark:
    case RecordType::range_start:
      nvtx_->clipped += clipped ? 1 : 0;
      [[fallthrough]];
    case RecordType::range_end:  // nothing of it is stored but the time
      return read_loose(record, ns, body, text, blob);
    default:
      ++nvtx_->damaged;
  }
}

void ThreadReader::read_loose(const SpoolRecord& record, int64_t ns, const spool::EventBody& body,
                              std::string_view text, std::string_view blob) {
  if (!on_loose) return;
  LooseEvent event{record.head.type,
                   ns,
                   body.range_id,
                   event_name(body, text),
                   domain_name(record.head.domain),
                   timeline_.innermost(),
                   static_cast<uint32_t>(timeline_.open().size()),
                   {}};
  if (!first_ && event.type != RecordType::range_end) {
    event.payload = payload(body, blob, record.head.domain);
  }
  on_loose(event);
}

void ThreadReader::read_mpi(const SpoolRecord& record, int64_t ns) {
  TimelineCall call;
  std::string_view rest;
  const std::optional<int64_t> end_ns = record.split(&call.body, &call.dtype, &rest)
                                            ? image_.clock.ns(call.body.end_ticks)
                                            : std::optional<int64_t>();
  if (!end_ns || *end_ns < ns || call.body.function >= mpi::kFunctionCount) {
    ++mpi_->damaged;
    return;
  }
  call.start_ns = ns;
  call.end_ns = *end_ns;
  call.flags = record.head.flags;
  const bool issued = (call.flags & spool::kIssued) != 0;
  if ((call.flags & spool::kNonBlocking) == 0 || issued) {
    timeline_.call(call);
    if (issued && on_issued) on_issued(call);
  } else if (on_finished) {
    on_finished(call);
  }
}

}  // namespace preserve
