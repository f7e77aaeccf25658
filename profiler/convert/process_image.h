// SPDX-License-Identifier: Apache-2.0
// What is to be known of one spool before its threads are read: who it was, its clock, and every
// definition (strings, domains, schemas, memory regions), wherever in the file they stand.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/clocks/clock_line.h"
#include "profiler/convert/cuda/run.h"
#include "profiler/convert/payload.h"
#include "profiler/convert/spool_reader.h"
#include "profiler/convert/tensors.h"
#include "profiler/convert/tick_clock.h"

namespace preserve {

// Records by what became of them; received = written + dropped + sampled + unmatched + clipped +
// damaged + missing (or overwritten). A record is at most one of unmatched, clipped and damaged.
struct LossCount {
  int64_t stated = 0;     // by the collector: everything that reached it
  int64_t read = 0;       // found in the spool
  int64_t dropped = 0;    // by the collector: no room
  int64_t sampled = 0;    // by the collector: --sample
  int64_t unmatched = 0;  // the end of something whose beginning is missing, or the reverse
  int64_t clipped = 0;    // a message, payload or schema was too long
  int64_t damaged = 0;    // no sense could be made of it
  // Of unmatched, clipped and damaged: what the collector does not count, so it is received only
  // now.
  int64_t uncounted = 0;

  void damage_uncounted() {
    ++damaged;
    ++uncounted;
  }
  // Counters of one thread; false when they cannot be true.
  bool add_stated(uint64_t received, uint64_t refused);
  bool set_sampled(uint64_t records);  // of all threads; false when it cannot be true
};

// What finding out about touches cost a process.
struct TouchCost {
  int64_t ns = 0;
  uint64_t faults = 0, intervals = 0;
  std::string ended_by{};  // an MPI function whose arguments are not known; empty: to the end
};

class ProcessImage {
 public:
  explicit ProcessImage(const SpoolFileReader& file);

  std::string host, command;
  std::string mpi_library;  // name and version, as the library says them; empty: unknown
  // Anonymous memory when there was most of it, and what of it was on huge pages; 0: unknown.
  uint64_t anonymous_bytes = 0, huge_bytes = 0;
  std::optional<int64_t> rank, world_size;
  bool spawned = false;  // by MPI_Comm_spawn: its rank would be one of another MPI_COMM_WORLD
  bool complete = false;
  bool file_was_full = false;
  bool limit_reached = false;  // of its spool
  bool disk_was_short = false;
  TickClock clock;
  std::vector<clocks::Reading> launchers_clock;
  LossCount nvtx, mpi;
  std::map<std::string, uint64_t> undescribed;  // calls of MPI functions that are not recorded
  LossCount cuda_calls;                         // records of launches, graph nodes and collectives
  cuda::RunReader cuda;  // has the activities; the threads add their launches

  std::map<uint64_t, std::string_view> strings;
  std::map<uint64_t, std::string_view> domains, thread_names;
  PayloadSchemas schemas;
  std::vector<RegionEvent> regions;
  std::vector<Touch> touches;  // by time
  std::optional<TouchCost> touch_cost;
  // Chunks of each thread in order. Threads that had one tid after each other are told apart.
  struct ThreadKey {
    uint32_t tid, ordinal;
    bool operator<(const ThreadKey& other) const {
      return tid != other.tid ? tid < other.tid : ordinal < other.ordinal;
    }
  };
  std::map<ThreadKey, std::vector<std::string_view>> threads;

  std::string_view string(uint64_t id) const;

 private:
  void read_facts(const SpoolFileReader& file);
  void read_process_record(const SpoolRecord& record);
  void read_statistics(const std::map<uint64_t, spool::StatisticsBody>& statistics);
  // `counted`: by the collector, as a record of a thread.
  void read_definition(const SpoolRecord& record, bool counted);
  void damaged_definition(bool counted);
  void add_touch(const spool::DefinitionBody& body, std::string_view text, bool counted);
  void read_thread_definitions(const SpoolFileReader& file);
  void add_region_event(const SpoolRecord& record, const spool::DefinitionBody& body,
                        std::string_view text, bool counted);
};

// Whether records of this type are definitions (and so not part of a thread's timeline).
bool is_definition(spool::RecordType type);

}  // namespace preserve
