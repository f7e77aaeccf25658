// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/nsys/file.h"

#include <algorithm>
#include <limits>

#include "common/error.h"
#include "common/text.h"
#include "profiler/import/nsys/foreign_db.h"
#include "profiler/import/nsys/payloads.h"

namespace preserve::import {
namespace {

// Ids of the export: pid and thread packed into one number.
constexpr int64_t kProcessMask = static_cast<int64_t>(0xffffffffff000000u);
constexpr int64_t kThreadMask = 0xffffff;
constexpr int64_t kTimeLimitNs = std::numeric_limits<int64_t>::max() / 4;
constexpr size_t kProcessLimit = 1000;
constexpr size_t kDeviceLimit = 1000;           // each process gets them all
constexpr size_t kVisibleDeviceLimit = 10'000;  // of all processes
constexpr const char* kGraphTable = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE";
// Calls and waits of the host.
constexpr std::string_view kHostTables[] = {"CUPTI_ACTIVITY_KIND_RUNTIME",
                                            "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
                                            "CUPTI_ACTIVITY_KIND_CUDA_EVENT"};
// NVTX event types of the export that are ranges.
constexpr int64_t kPushPop = 59, kStartEnd = 60;

// What PyTorch's emit_nvtx writes: "aten::addmm, seq = 3, op_id = 99, sizes = [[4], [2, 3]]".
struct AnnotatedOp {
  std::string_view name{}, sizes{};
  bool is_op = false;
};
AnnotatedOp annotated_op(std::string_view text) {
  const size_t comma = text.find(", ");
  if (comma == std::string_view::npos) return {text, {}, false};
  const std::string_view rest = text.substr(comma + 2);
  if (!rest.starts_with("seq = ") && !rest.starts_with("op_id = ") &&
      !rest.starts_with("sizes = ")) {
    return {text, {}, false};
  }
  AnnotatedOp op{text.substr(0, comma), {}, true};
  const size_t sizes = rest.find("sizes = ");
  if (sizes != std::string_view::npos) op.sizes = rest.substr(sizes + 8);
  if (const size_t ids = op.sizes.find(", input_op_ids"); ids != std::string_view::npos) {
    op.sizes = op.sizes.substr(0, ids);
  }
  return op;
}

class NsysReader {
 public:
  NsysReader(const std::filesystem::path& path, bool partial, TraceDb& db,
             const gpu::KernelRules& rules)
      : file_(path), partial_(partial), db_(db), rules_(rules) {}

  NsysFile read();

 private:
  ProcessBuilder& process(int64_t global_pid);
  const std::string& string_at(int64_t id);
  void read_version();
  void find_whole_graphs();
  void read_mpi_ranks();
  std::string other_gpu_tables();
  void read_activities(const std::string& table, bool copies, const char* name);
  void read_launches();
  void read_nvtx();
  void note_call(ProcessBuilder& owner, const NcclPayload& payload, const std::string& name,
                 HostRange& range);
  void read_devices();
  void read_process_names();
  void keep_processes_with_work();
  void refuse(ProcessBuilder& owner, const std::string& table, const char* kind, const char* what);

  ForeignDb file_;
  bool partial_;
  TraceDb& db_;
  const gpu::KernelRules& rules_;
  std::map<int64_t, std::unique_ptr<ProcessBuilder>> processes_;  // by global pid
  // Of StringIds, those referred to. Ordered: the file chooses the numbers, and could choose such
  // that a hash table has them all in one place.
  std::map<int64_t, std::string> strings_;
  std::unique_ptr<Rows> string_rows_;
  std::set<std::pair<int64_t, int64_t>> whole_graphs_;  // process and correlation
  NsysFile result_;
};

ProcessBuilder& NsysReader::process(int64_t global_pid) {
  std::unique_ptr<ProcessBuilder>& builder = processes_[global_pid & kProcessMask];
  if (!builder) {
    if (processes_.size() > kProcessLimit) {
      throw input_error("{}: has more than {} processes", file_.file(), kProcessLimit);
    }
    builder = std::make_unique<ProcessBuilder>(db_, rules_);
    builder->row.pid = (global_pid >> 24) & kThreadMask;
    builder->partial = partial_;
    builder->source_file = file_.file();
    builder->row.start_ns = std::numeric_limits<int64_t>::max();
    builder->row.end_ns = std::numeric_limits<int64_t>::min();
  }
  return *builder;
}

const std::string& NsysReader::string_at(int64_t id) {
  const auto [entry, fresh] = strings_.try_emplace(id);
  if (fresh && string_rows_) {
    string_rows_->bind(id);
    if (string_rows_->next()) entry->second.assign(string_rows_->text(0));
  }
  return entry->second;
}

// A row that cannot be used.
void NsysReader::refuse(ProcessBuilder& owner, const std::string& table, const char* kind,
                        const char* what) {
  if (!partial_) {
    throw input_error("{}: a row of {} {}; --partial imports the rest", file_.file(), table, what);
  }
  owner.lose(kind);
}

NsysFile NsysReader::read() {
  {
    constexpr int64_t kOwnApplicationId = 0x50525356;  // of trace.db
    Rows id(file_, "PRAGMA application_id");
    if (id.next() && id.integer(0) == kOwnApplicationId) {
      throw input_error("{}: is a preserve trace already: nothing to import", file_.file());
    }
  }
  const auto strings = columns_of(file_, "StringIds");
  if (strings.count("id") == 0 || strings.count("value") == 0) {
    throw input_error(
        "{}: is a database but not an Nsight Systems export: it has no table StringIds",
        file_.file());
  }
  string_rows_ = std::make_unique<Rows>(file_, "SELECT value FROM StringIds WHERE id = ?");
  read_version();
  find_whole_graphs();
  read_activities("CUPTI_ACTIVITY_KIND_KERNEL", false, nullptr);
  read_activities("CUPTI_ACTIVITY_KIND_MEMCPY", true, "Memcpy");
  read_activities("CUPTI_ACTIVITY_KIND_MEMSET", true, "Memset");
  read_activities(kGraphTable, false, "CUDA graph");
  keep_processes_with_work();
  read_launches();
  read_nvtx();
  read_devices();
  read_process_names();
  read_mpi_ranks();
  string_rows_.reset();
  for (auto& [global_pid, builder] : processes_) result_.processes.push_back(std::move(builder));
  return std::move(result_);
}

// Graphs that were recorded as a whole, one row per launch, by their launches. Those of which the
// kernels are there as well are taken out again as they are read.
void NsysReader::find_whole_graphs() {
  const auto columns = columns_of(file_, kGraphTable);
  if (columns.count("correlationId") == 0) return;
  Rows rows(file_, select_of(columns, kGraphTable, {"globalPid", "correlationId"}));
  while (rows.next()) whole_graphs_.emplace(rows.integer(0) & kProcessMask, rows.integer(1));
}

// What the export has of GPU work in tables that are not read, for a message: by their names, or
// because what is in them lasts and has a place on a GPU.
std::string NsysReader::other_gpu_tables() {
  std::string list;
  Rows tables(file_,
              "SELECT name, name LIKE '%WORKLOAD%' OR name LIKE 'CUPTI_ACTIVITY_KIND_%' OR "
              "name LIKE 'GPU_%' OR name LIKE 'VULKAN_%' OR name LIKE 'OPENACC_%' "
              "FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'");
  while (tables.next()) {
    const std::string table(tables.text(0));
    if (table.find_first_of("\"'") != std::string::npos ||
        std::find(std::begin(kHostTables), std::end(kHostTables), table) != std::end(kHostTables)) {
      continue;
    }
    const auto columns = columns_of(file_, table);
    const auto has = [&](const char* column) { return columns.count(column) != 0; };
    const bool runs_on_a_gpu =
        has("start") && has("end") && (has("deviceId") || has("streamId") || has("gpuId"));
    if (tables.integer(1) == 0 && !runs_on_a_gpu) continue;
    Rows any(file_, fmt::format("SELECT 1 FROM \"{}\" LIMIT 1", table));
    if (any.next()) list += (list.empty() ? "" : ", ") + printable(table, 60);
  }
  return list;
}

// Ranks that MPI gave, by thread of the process. They count more than any order of GPUs.
void NsysReader::read_mpi_ranks() {
  const auto columns = columns_of(file_, "MPI_RANKS");
  if (columns.count("globalTid") == 0 || columns.count("rank") == 0) return;
  Rows rows(file_, "SELECT globalTid, rank FROM MPI_RANKS");
  std::set<int64_t> ranks;
  while (rows.next()) {
    if (!rows.is_integer(1) || rows.integer(1) < 0) continue;
    const auto found = processes_.find(rows.integer(0) & kProcessMask);
    if (found == processes_.end()) continue;  // a rank without GPU work
    found->second->row.rank = rows.integer(1);
    ranks.insert(rows.integer(1));
  }
  // The table holds the ranks of this export only.
  const auto count = static_cast<int64_t>(ranks.size());
  if (count < 2 || *ranks.begin() != 0 || *ranks.rbegin() != count - 1) return;
  for (auto& [global_pid, builder] : processes_) builder->row.world_size = count;
}

void NsysReader::read_version() {
  for (const char* table : {"META_DATA_EXPORT", "EXPORT_META_DATA"}) {
    const auto columns = columns_of(file_, table);
    if (columns.count("name") == 0 || columns.count("value") == 0) continue;
    Rows rows(file_,
              fmt::format("SELECT value FROM {} WHERE name = 'EXPORT_SCHEMA_VERSION'", table));
    if (rows.next()) result_.version = printable(rows.text(0), 40);
    return;
  }
}

void NsysReader::read_activities(const std::string& table, bool copies, const char* name) {
  const auto columns = columns_of(file_, table);
  if (columns.empty()) return;
  for (const char* needed : {"start", "end"}) {
    if (columns.count(needed) == 0) {
      throw input_error("{}: table {} has no column '{}': unknown Nsight Systems schema",
                        file_.file(), table, needed);
    }
  }
  std::string name_column = "demangledName";
  for (const char* other : {"shortName", "mangledName"}) {
    if (columns.count(name_column) == 0) name_column = other;
  }
  bool nameless = name == nullptr && columns.count(name_column) == 0;
  const auto refuse_or_say = [&] {
    if (!partial_) {
      throw input_error(
          "{}: table {} has no column 'demangledName': unknown Nsight Systems schema; --partial "
          "imports its kernels without names",
          file_.file(), table);
    }
    result_.notes.push_back("the export does not say what its kernels are called");
  };
  // Context and green context come before the stream: streams are numbered per context.
  Rows rows(file_, select_of(columns, table,
                             {"start", "end", "deviceId", "contextId", "streamId", "correlationId",
                              "globalPid", name_column, "graphId", "graphNodeId", "bytes"}));
  const bool whole_graphs = table == kGraphTable;
  bool noted = false;
  const bool has_graph = columns.count("graphId") != 0;
  const bool has_node = columns.count("graphNodeId") != 0;
  std::map<ProcessBuilder*, std::map<int64_t, uint32_t>> names;  // ordered, as strings_
  int64_t last_pid = 0, last_name_id = -1;
  uint32_t last_name = 0;
  ProcessBuilder* owner = nullptr;
  std::map<int64_t, uint32_t>* own_names = nullptr;
  while (rows.next()) {
    if (std::exchange(nameless, false)) refuse_or_say();
    const int64_t pid = rows.integer(6);
    if (owner == nullptr || pid != last_pid) {
      owner = &process(pid);
      own_names = &names[owner];
      last_pid = pid;
      last_name_id = -1;
    }
    if (!rows.is_integer(0) || !rows.is_integer(1)) {
      refuse(*owner, table, "bad_time", "has no usable start or end");
      continue;
    }
    GpuActivity activity;
    activity.start_ns = rows.integer(0);
    activity.end_ns = rows.integer(1);
    if (activity.start_ns == 0 && activity.end_ns == 0) {
      owner->lose("zero_timestamp");
      continue;
    }
    if (std::abs(activity.start_ns) > kTimeLimitNs || std::abs(activity.end_ns) > kTimeLimitNs) {
      refuse(*owner, table, "bad_time", "has a time out of range");
      continue;
    }
    if (activity.end_ns < activity.start_ns) {
      refuse(*owner, table, "negative_duration", "ends before it starts");
      continue;
    }
    owner->row.start_ns = std::min(owner->row.start_ns, activity.start_ns);
    owner->row.end_ns = std::max(owner->row.end_ns, activity.end_ns);
    activity.is_copy = copies;
    activity.stream = owner->gpu_stream(rows.integer(2), rows.integer(3), rows.integer(4));
    activity.correlation = rows.integer(5);
    const std::pair launch{pid & kProcessMask, activity.correlation};
    if (!whole_graphs && !copies && !whole_graphs_.empty()) whole_graphs_.erase(launch);
    if (whole_graphs && activity.correlation != 0 && whole_graphs_.count(launch) == 0) {
      continue;  // its kernels are operators already
    }
    if (whole_graphs && !noted) {
      noted = true;
      result_.notes.push_back(
          "graphs were recorded as a whole: record with --cuda-graph-trace=node to "
          "see their kernels");
    }
    const int64_t name_id = rows.integer(7);
    if (last_name_id < 0 || name_id != last_name_id) {
      uint32_t& known = (*own_names)[name_id];
      if (known == 0) {
        const std::string& text = name != nullptr ? std::string(name) : string_at(name_id);
        known = owner->kernel_name(text.empty() ? "unnamed kernel" : text);
      }
      last_name = known;
      last_name_id = name_id;
    }
    activity.name = last_name;
    if (has_graph) activity.graph = std::max<int64_t>(0, rows.integer(8));
    if (has_node && rows.integer(9) > 0) activity.graph_node = rows.integer(9);
    if (copies && rows.is_integer(10)) activity.bytes = rows.integer(10);
    owner->add(activity);
  }
}

// Only processes that used a GPU become processes of the trace; the launcher and its daemons do
// not.
void NsysReader::keep_processes_with_work() {
  std::erase_if(processes_, [](const auto& entry) {
    return entry.second->activities() == 0 && entry.second->lost() == 0;
  });
  if (processes_.empty() && !partial_) {
    const std::string others = other_gpu_tables();
    throw input_error("{}: {}; --partial imports its ranges", file_.file(),
                      others.empty()
                          ? std::string("holds no GPU activity: no kernel, copy, fill or graph was "
                                        "recorded")
                          : "no GPU activity is recognised, but there are rows in " + others);
  }
}

void NsysReader::read_launches() {
  const std::string table = "CUPTI_ACTIVITY_KIND_RUNTIME";
  const auto columns = columns_of(file_, table);
  if (columns.count("start") == 0 || columns.count("globalTid") == 0 ||
      columns.count("correlationId") == 0) {
    return;
  }
  Rows rows(file_, select_of(columns, table, {"start", "correlationId", "globalTid"}));
  ProcessBuilder* owner = nullptr;
  int64_t last_pid = -1;
  while (rows.next()) {
    const int64_t tid = rows.integer(2);
    if (owner == nullptr || (tid & kProcessMask) != last_pid) {
      last_pid = tid & kProcessMask;
      const auto found = processes_.find(last_pid);
      owner = found == processes_.end() ? nullptr : found->second.get();
    }
    if (owner == nullptr || rows.integer(1) == 0 || !rows.is_integer(0)) continue;
    owner->add(Launch{.correlation = rows.integer(1),
                      .start_ns = rows.integer(0),
                      .thread = owner->thread(0, tid & kThreadMask)});
  }
}

// A call of NCCL, by the payload of its range.
void NsysReader::note_call(ProcessBuilder& owner, const NcclPayload& payload,
                           const std::string& name, HostRange& range) {
  if (payload.communicator && payload.ranks) {
    owner.communicator_ranks[*payload.communicator] = *payload.ranks;
  }
  gpu::CollectiveFacts facts{.function = gpu::collective_function(name),
                             .bytes = payload.bytes,
                             .communicator = payload.communicator,
                             .peer = payload.peer,
                             .source = "nccl_nvtx"};
  // Without a payload it still stands before kernels of its own.
  if (!facts.function.empty() && !payload.ranks) {
    range.call = owner.add_communication(std::move(facts));
  }
}

void NsysReader::read_nvtx() {
  const auto columns = columns_of(file_, "NVTX_EVENTS");
  if (columns.count("start") == 0 || columns.count("eventType") == 0) return;
  Rows rows(file_, select_of(columns, "NVTX_EVENTS",
                             {"start", "end", "eventType", "text", "textId", "globalTid",
                              "domainId", "binaryData"}) +
                       fmt::format(" WHERE eventType IN ({}, {})", kPushPop, kStartEnd));
  const NsysPayloads payloads(file_);
  std::string text;
  while (rows.next()) {
    const int64_t tid = rows.integer(5);
    const auto found = processes_.find(tid & kProcessMask);
    ProcessBuilder* owner = found != processes_.end() ? found->second.get() : nullptr;
    if (owner == nullptr) {
      if (!processes_.empty()) continue;  // of a process without GPU work
      owner = &process(tid);
    }
    if (!rows.is_integer(0) || std::abs(rows.integer(0)) > kTimeLimitNs) {
      owner->lose("bad_host_event");
      continue;
    }
    HostRange range{.start_ns = rows.integer(0), .end_ns = rows.integer(1)};
    range.open = rows.is_null(1);
    if (range.open) range.end_ns = std::max(range.start_ns, owner->row.end_ns);
    if (range.end_ns < range.start_ns || range.end_ns > kTimeLimitNs) {
      owner->lose("bad_host_event");
      continue;
    }
    text.assign(rows.is_null(3) ? string_at(rows.integer(4)) : rows.text(3));
    const AnnotatedOp op = annotated_op(text);
    range.range_class = op.is_op ? RangeClass::op : RangeClass::annotation;
    range.name = owner->range_name(op.name, range.range_class);
    if (!op.sizes.empty()) range.operands = owner->operands().add(op.sizes, {});
    range.nests = rows.integer(2) == kPushPop;
    if (!payloads.empty() && text.starts_with("nccl")) {
      const auto payload = payloads.decode(rows.integer(6), rows.bytes(7));
      note_call(*owner, payload.value_or(NcclPayload()), text, range);
    }
    range.thread = owner->thread(0, tid & kThreadMask);
    owner->add(range);
  }
}

void NsysReader::read_devices() {
  const auto columns = columns_of(file_, "TARGET_INFO_GPU");
  if (columns.count("id") == 0) {
    result_.notes.push_back("the export does not say which GPU it was");
    return;
  }
  std::map<int64_t, gpu::DeviceFacts> devices;
  int64_t left_out = 0;
  Rows rows(file_,
            select_of(columns, "TARGET_INFO_GPU",
                      {"id", "name", "l2CacheSize", "totalMemory", "memoryBandwidth", "smCount"}));
  while (rows.next()) {
    gpu::DeviceFacts facts{.name = printable(rows.text(1))};
    if (rows.integer(2) > 0) facts.cache_bytes = rows.integer(2);
    if (rows.integer(3) > 0) facts.memory_bytes = rows.integer(3);
    if (rows.integer(4) > 0) facts.bandwidth_bytes_per_s = rows.integer(4);
    if (rows.integer(5) > 0) facts.units = rows.integer(5);
    if (devices.size() < kDeviceLimit) {
      devices[rows.integer(0)] = std::move(facts);
    } else {
      ++left_out;
    }
  }
  if (left_out != 0) {
    result_.notes.push_back(fmt::format("describes too many GPUs: {} left out", left_out));
  }
  for (auto& [global_pid, builder] : processes_) builder->devices = devices;
  // A process counts its visible devices from 0; the export maps them to GPUs where it can.
  const auto map_columns = columns_of(file_, "TARGET_INFO_CUDA_DEVICE");
  if (map_columns.count("gpuId") == 0 || map_columns.count("cudaId") == 0) return;
  Rows map_rows(file_,
                select_of(map_columns, "TARGET_INFO_CUDA_DEVICE", {"gpuId", "cudaId", "pid"}));
  for (size_t i = 0; map_rows.next(); ++i) {
    if (i == kVisibleDeviceLimit) {
      result_.notes.push_back(fmt::format(
          "names more than {} visible devices of its processes: the rest is left out", i));
      break;
    }
    const auto gpu = devices.find(map_rows.integer(0));
    if (gpu == devices.end()) continue;
    for (auto& [global_pid, builder] : processes_) {
      if (map_rows.is_null(2) || builder->row.pid == (map_rows.integer(2) & kThreadMask)) {
        const int64_t visible = map_rows.integer(1);
        if (builder->devices.size() >= kDeviceLimit && builder->devices.count(visible) == 0)
          continue;
        builder->devices[visible] = gpu->second;
      }
    }
  }
}

void NsysReader::read_process_names() {
  const auto columns = columns_of(file_, "PROCESSES");
  if (columns.count("globalPid") == 0 || columns.count("name") == 0) return;
  Rows rows(file_, "SELECT globalPid, name FROM PROCESSES");
  while (rows.next()) {
    const auto found = processes_.find(rows.integer(0) & kProcessMask);
    if (found == processes_.end()) continue;
    found->second->row.command = std::string(rows.text(1));
    found->second->rank_name = rank_in_label(rows.text(1));
  }
}

}  // namespace

NsysFile read_nsys(const std::filesystem::path& path, bool partial, TraceDb& db,
                   const gpu::KernelRules& rules) {
  return NsysReader(path, partial, db, rules).read();
}

}  // namespace preserve::import
