// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/process_image.h"

#include <algorithm>

#include "common/launcher_variables.h"
#include "common/number.h"

namespace preserve {

using spool::DefinitionBody;
using spool::RecordType;

namespace {

std::optional<int64_t> number(const SpoolFileReader& file, const char* name) {
  const auto value = number_of<int64_t>(file.fact(std::string("env.") + name));
  return value && *value >= 0 ? value : std::nullopt;
}

// Anchors are needed before any other record can be dated.
TickClock read_clock(const SpoolFileReader& file) {
  std::vector<TickClock::Anchor> anchors{{file.header().start_ticks, file.header().start_ns}};
  for (const SpoolFileReader::Chunk& chunk : file.chunks()) {
    if (chunk.tid != 0) continue;
    SpoolCursor cursor(chunk.records);
    SpoolRecord record;
    DefinitionBody body{};
    std::string_view text, blob;
    while (cursor.next(&record)) {
      if (record.head.type == RecordType::anchor && record.split(&body, &text, &blob)) {
        anchors.push_back({record.head.ticks, static_cast<int64_t>(body.id)});
      }
    }
    file.looked_at(chunk.records.size());
  }
  return {file.header().clock, std::move(anchors)};
}

constexpr int64_t kMost = int64_t{1} << 48;  // a thread that records every ns for three days

}  // namespace

bool LossCount::set_sampled(uint64_t records) {
  if (records > static_cast<uint64_t>(kMost)) return false;
  sampled = static_cast<int64_t>(records);
  return true;
}

bool LossCount::add_stated(uint64_t received, uint64_t refused) {
  if (received > static_cast<uint64_t>(kMost) || refused > received) return false;
  if (stated > INT64_MAX / 2 - kMost) return false;
  stated += static_cast<int64_t>(received);
  dropped += static_cast<int64_t>(refused);
  return true;
}

bool is_definition(RecordType type) {
  return (type >= RecordType::string && type <= RecordType::rank) || type == RecordType::touch;
}

ProcessImage::ProcessImage(const SpoolFileReader& file) : clock(read_clock(file)) {
  read_facts(file);
  for (size_t i = 0; i < clock.impossible_anchors(); ++i) nvtx.damage_uncounted();
  std::map<uint64_t, spool::StatisticsBody> statistics;  // the last of each thread counts
  for (const SpoolFileReader::Chunk& chunk : file.chunks()) {
    if (chunk.tid != 0) {
      threads[{chunk.tid, chunk.ordinal}].push_back(chunk.records);
      continue;
    }
    SpoolCursor cursor(chunk.records);
    SpoolRecord record;
    while (cursor.next(&record)) {
      spool::StatisticsBody body{};
      std::string_view text, blob;
      if (record.head.type == RecordType::statistics && record.split(&body, &text, &blob)) {
        statistics[body.tid] = body;
      } else if (record.head.type == RecordType::trailer) {
        complete = true;
        file_was_full = (record.head.flags & spool::kFileWasFull) != 0;
        limit_reached = (record.head.flags & spool::kLimitReached) != 0;
        disk_was_short = (record.head.flags & spool::kDiskWasShort) != 0;
      } else if (is_definition(record.head.type)) {
        read_definition(record, false);
      } else if (cuda::is_cuda_record(static_cast<uint8_t>(record.head.type))) {
        cuda.add(record.head, record.tail, {});
      } else {
        read_process_record(record);
      }
    }
    if (cursor.damaged()) nvtx.damage_uncounted();
    file.looked_at(chunk.records.size());
  }
  if (file.torn()) complete = false;
  read_statistics(statistics);
  read_thread_definitions(file);
  std::ranges::sort(touches, {}, &Touch::ns);
}

// What is said of the process as a whole, in the form of definitions.
void ProcessImage::read_process_record(const SpoolRecord& record) {
  DefinitionBody body{};
  std::string_view text, blob;
  const bool whole = record.split(&body, &text, &blob);
  switch (record.head.type) {
    case RecordType::undescribed:
      if (whole) undescribed[std::string(text)] = body.id;
      return;
    case RecordType::pages:
      if (!whole) return nvtx.damage_uncounted();
      if (body.bytes <= anonymous_bytes) return;
      anonymous_bytes = body.bytes;
      huge_bytes = body.id;
      return;
    case RecordType::host_clock:
      if (!whole) return nvtx.damage_uncounted();
      launchers_clock.push_back({static_cast<int64_t>(body.id), static_cast<int64_t>(body.parent),
                                 static_cast<int64_t>(body.base)});
      return;
    case RecordType::sampled:
      if (!whole || !nvtx.set_sampled(body.id)) nvtx.damage_uncounted();
      return;
    default:
      return;
  }
}

void ProcessImage::read_statistics(const std::map<uint64_t, spool::StatisticsBody>& statistics) {
  for (const auto& [thread, body] : statistics) {
    if (!nvtx.add_stated(body.nvtx_received, body.nvtx_dropped)) nvtx.damage_uncounted();
    if (!mpi.add_stated(body.mpi_received, body.mpi_dropped)) mpi.damage_uncounted();
    if (!cuda_calls.add_stated(body.cuda_received, body.cuda_dropped)) {
      cuda_calls.damage_uncounted();
    }
  }
}

void ProcessImage::read_facts(const SpoolFileReader& file) {
  host = file.fact("host");
  command = file.fact("command");
  // A rank and a size that do not belong together are a guess, and so is a rank that the size does
  // not hold.
  for (const RankVariables& launcher : kRankVariables) {
    rank = number(file, launcher.rank);
    if (launcher.size != nullptr) world_size = number(file, launcher.size);
    const bool fits = launcher.size == nullptr || (world_size && rank && *rank < *world_size);
    if (rank && fits) return;
    rank.reset();
    world_size.reset();
  }
}

std::string_view ProcessImage::string(uint64_t id) const {
  const auto found = strings.find(id);
  return found == strings.end() ? std::string_view("unregistered string") : found->second;
}

// Definitions that found the log full, and resizes, which are too frequent for it.
void ProcessImage::read_thread_definitions(const SpoolFileReader& file) {
  for (const auto& [thread, chunks] : threads) {
    for (const std::string_view chunk : chunks) {
      SpoolCursor cursor(chunk);
      SpoolRecord record;
      while (cursor.next(&record)) {
        if (is_definition(record.head.type)) read_definition(record, true);
      }
      file.looked_at(chunk.size());
    }
  }
}

void ProcessImage::damaged_definition(bool counted) {
  ++nvtx.damaged;
  nvtx.uncounted += counted ? 0 : 1;
}

void ProcessImage::read_definition(const SpoolRecord& record, bool counted) {
  DefinitionBody body{};
  std::string_view text, blob;
  if (!record.split(&body, &text, &blob)) return damaged_definition(counted);
  switch (record.head.type) {
    case RecordType::string:
      strings[body.id] = text;
      break;
    case RecordType::domain:
      domains[record.head.domain] = text;
      break;
    case RecordType::thread_name:
      thread_names[body.id] = body.parent != 0 ? string(body.parent) : text;
      break;
    case RecordType::schema:
    case RecordType::enumeration: {
      PayloadSchema& schema = schemas[{record.head.domain, body.id}];
      schema = read_schema(text, body, blob, record.head.type == RecordType::enumeration);
      if (!schema.clipped) break;
      ++nvtx.clipped;
      nvtx.uncounted += counted ? 0 : 1;
      break;
    }
    case RecordType::rank:
      if (body.base == 1) {
        spawned = true;
        rank.reset();
        world_size.reset();
        break;
      }
      if (body.id >= body.parent || body.parent > INT32_MAX) return damaged_definition(counted);
      rank = static_cast<int64_t>(body.id);
      world_size = static_cast<int64_t>(body.parent);
      mpi_library = text.substr(0, text.find_first_of(",\n"));  // how it was built follows
      std::ranges::replace(mpi_library, '\t', ' ');
      break;
    case RecordType::touch:
      return add_touch(body, text, counted);
    case RecordType::category:  // kept in the spool; trace.db has no place for them
    case RecordType::resource:
      break;
    default:
      add_region_event(record, body, text, counted);
  }
}

void ProcessImage::add_touch(const DefinitionBody& body, std::string_view text, bool counted) {
  if (body.base == 0) {
    const auto ns = static_cast<int64_t>(std::min<uint64_t>(body.id, INT64_MAX));
    touch_cost = TouchCost{ns, body.parent, body.bytes, std::string(text)};
    return;
  }
  const std::optional<int64_t> ns = clock.ns(body.id);
  if (!ns || body.bytes > UINT64_MAX - body.base) return damaged_definition(counted);
  touches.push_back({*ns, body.base, body.bytes, body.parent != 0, counted});
}

void ProcessImage::add_region_event(const SpoolRecord& record, const DefinitionBody& body,
                                    std::string_view text, bool counted) {
  static constexpr std::pair<RecordType, RegionEvent::Kind> kKinds[] = {
      {RecordType::heap, RegionEvent::heap},
      {RecordType::heap_unregister, RegionEvent::heap_end},
      {RecordType::heap_reset, RegionEvent::heap_reset},
      {RecordType::region, RegionEvent::begin},
      {RecordType::region_resize, RegionEvent::resize},
      {RecordType::region_unregister, RegionEvent::end}};
  RegionEvent event{};
  event.counted = counted;
  event.kind = RegionEvent::name;
  for (const auto& [type, kind] : kKinds) {
    if (record.head.type == type) event.kind = kind;
  }
  const std::optional<int64_t> ns = clock.ns(record.head.ticks);
  if (!ns) return damaged_definition(counted);
  event.ns = *ns;
  event.id = body.id;
  event.base = body.base;
  event.bytes = body.bytes;
  // The parent of a region is its heap; of a name or a heap, a registered string.
  if (event.kind == RegionEvent::begin) {
    event.heap_id = body.parent;
  } else {
    event.text = body.parent != 0 ? string(body.parent) : text;
  }
  regions.push_back(std::move(event));
}

}  // namespace preserve
