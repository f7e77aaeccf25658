// SPDX-License-Identifier: Apache-2.0
// Spool file: what the collector inside a profiled process appends and the converter reads. One
// file per process, native byte order; described for outsiders in docs/formats.md.
//
//   FileHeader, text (name NUL value NUL ...)
//   ChunkHeader, records ...   one chunk per thread and flush; thread 0 holds definitions
//   ...
//   the last chunk ends with a kTrailer record when the process ended in order
//
// Where only the newest records are kept, what was overwritten is a gap at the beginning: a
// ChunkHeader of kGapMagic, in whose place no disk is used, after all definitions made until then.
//
// A record is a RecordHeader, then the body of its type, then text, then a blob, padded to 8 bytes.
// Readers trust no length in here: a killed process leaves a torn last record.
#pragma once

#include <cstddef>
#include <cstdint>

namespace preserve::spool {

inline constexpr char kMagic[8] = {'P', 'R', 'S', 'V', 'S', 'P', 'L', '\n'};
inline constexpr uint32_t kVersion = 4;
inline constexpr uint32_t kChunkMagic = 0x4b4e4843;  // "CHNK"
inline constexpr uint32_t kGapMagic = 0x21504147;    // "GAP!": `tid` has the high half of `bytes`
inline constexpr size_t kMaxTextBytes = 4096;        // longer messages are cut
inline constexpr size_t kMaxBlobBytes = 65536;       // longer payloads are left out and counted

enum class Clock : uint32_t {
  monotonic = 0,  // ticks are ns of CLOCK_MONOTONIC
  tsc = 1,        // ticks are the time-stamp counter; kAnchor records tie it to CLOCK_MONOTONIC
};

struct FileHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;  // this struct and the text after it, multiple of 8
  uint32_t pid, ppid;
  Clock clock;
  uint32_t flush_ms;
  uint64_t start_ticks;
  int64_t start_ns;  // CLOCK_MONOTONIC at start_ticks
};

struct ChunkHeader {
  uint32_t magic;
  uint32_t tid;      // 0: definitions, anchors, statistics
  uint32_t bytes;    // of the records that follow
  uint32_t ordinal;  // of the thread in its process: a tid comes back when its thread has ended
};

enum class RecordType : uint8_t {
  pad = 0,  // filler before the end of a ring; may be 8 bytes short of a header
  push,
  pop,
  mark,  // NVTX push/pop ranges and marks
  range_start,
  range_end,
  mpi,  // one finished MPI call, written at its end
  string,
  domain,
  category,
  thread_name,
  schema,
  enumeration,
  resource,  // DefinitionBody
  heap,
  heap_unregister,
  heap_reset,
  region,
  region_resize,
  region_unregister,
  region_name,
  rank,         // DefinitionBody: id is the rank, parent the world size; the text is the MPI
                // library's name and version. base 1: MPI_Comm_spawn started it, so it has none
  anchor,       // DefinitionBody: id is CLOCK_MONOTONIC in ns at `ticks`
  statistics,   // StatisticsBody
  trailer,      // the process ended in order
  undescribed,  // DefinitionBody: id is how often, since the start, the MPI function of the text
                // was called
  sampled,      // DefinitionBody: id is how many NVTX records, since the start, --sample left out
  touch,  // DefinitionBody: id is ticks, when `bytes` at `base` were touched first since the MPI
          // call before; parent 1: written. base 0: what that cost the process, id in ns,
          // parent faults, bytes intervals; the text is a call that ended it
  pages,  // DefinitionBody: of `bytes` of anonymous memory that the process had now, id were
          // on huge pages
  host_clock,  // DefinitionBody: id is CLOCK_MONOTONIC here in ns, parent the launcher's at that
               // moment, base the round trip in ns by which that is known
  count_,      // 64 and up: cuda_records.h
};

enum RecordFlags : uint8_t {
  kHasEvent = 1,        // an EventBody follows
  kTextCut = 2,         // the message was longer than kMaxTextBytes
  kBlobLeftOut = 4,     // the payload was longer than kMaxBlobBytes
  kNonBlocking = 8,     // mpi: from the call to the completion of its request
  kIssued = 16,         // mpi, with kNonBlocking: only the call that started it
  kFileWasFull = 32,    // trailer: for a while the file took no more
  kLimitReached = 64,   // trailer: records beyond the limit of the file were dropped
  kDiskWasShort = 128,  // trailer: for a while it took no more, to leave other files their part
};

struct RecordHeader {
  uint16_t units;       // size of the whole record in units of 8 bytes
  uint16_t text_bytes;  // message, not terminated
  RecordType type;
  uint8_t flags;
  uint16_t domain;  // 0: default domain
  uint64_t ticks;   // when; mpi: when the call began
};

struct EventBody {
  uint64_t range_id;   // range_start, range_end
  uint64_t payload;    // bits of the scalar payload
  uint32_t string_id;  // registered message; 0: the text of the record
  uint32_t category;
  uint32_t payload_type;  // nvtxPayloadType_t, or kPayloadBlob
  uint32_t blob_bytes;    // after the text: BlobHeader and bytes, repeated
};
inline constexpr uint32_t kPayloadBlob = 0xDFBD0009;  // NVTX_PAYLOAD_TYPE_EXT

struct BlobHeader {
  uint64_t schema_id;
  uint64_t bytes;  // of the payload that follows, padded to 8
};

// One shape for everything that is named, registered or moved; unused fields are 0.
struct DefinitionBody {
  uint64_t id;      // string, domain, category, thread, schema, heap or region
  uint64_t parent;  // region: heap; schema: static size; rank: world size
  uint64_t base;    // address
  uint64_t bytes;   // size; schema: number of entries in the blob
};

// An entry of a schema or enumeration, in the blob of its definition; the name follows, padded
// to 8.
struct SchemaEntry {
  uint64_t type;    // NVTX_PAYLOAD_ENTRY_TYPE_*, or a schema id
  uint64_t offset;  // enumeration: the value
  uint32_t flags;   // NVTX_PAYLOAD_ENTRY_FLAG_*
  uint32_t name_bytes;
};

struct MpiBody {
  uint64_t end_ticks;
  int64_t bytes;          // message of this rank; -1: unknown
  uint64_t communicator;  // equal on all its ranks; 0: unknown
  int64_t sequence;       // of the collectives of that communicator; -1: none
  uint32_t ranks;         // size of the communicator; 0: unknown
  int32_t peer;           // root, destination or source; -1: none
  uint32_t tid;           // thread that made the call
  uint16_t function;      // mpi::Function; the text of the record is the type's name
  uint16_t reserved;
};

struct StatisticsBody {
  uint64_t tid;  // low half; high half: ordinal of the thread in the process. 0: the
                 // definitions, and threads that found no ring
  uint64_t nvtx_received, nvtx_dropped;
  uint64_t mpi_received, mpi_dropped;
  uint64_t cuda_received, cuda_dropped;  // records of threads, see cuda_records.h
};

static_assert(sizeof(FileHeader) == 48 && sizeof(ChunkHeader) == 16 && sizeof(RecordHeader) == 16);
static_assert(sizeof(EventBody) == 32 && sizeof(MpiBody) == 48 && sizeof(DefinitionBody) == 32);
static_assert(sizeof(SchemaEntry) == 24 && sizeof(StatisticsBody) == 56 &&
              sizeof(BlobHeader) == 16);

inline constexpr size_t padded(size_t bytes) {
  return (bytes + 7) & ~size_t{7};
}

}  // namespace preserve::spool
