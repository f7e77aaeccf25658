// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/process_builder.h"

#include "common/error.h"
#include "common/hash.h"
#include "profiler/gpu/call_pairing.h"
#include "profiler/import/known_devices.h"

namespace preserve::import {
namespace {

// One launch with more activities than this is not a graph but a file without correlation ids.
constexpr size_t kReplayLimit = 200'000;
constexpr size_t kOpenRangeLimit = 1000;  // nesting beyond this is not kept
// Of one process, which get the annotations of its threads even where nothing was launched on them
// inside: a copy for each of thousands would be a file of any size.
constexpr size_t kAnnotatedGpus = 16;
constexpr gpu::PairConfidence kPaired{.alone = 0.9, .in_group = 0.72, .by_function = 0.45};
constexpr size_t kWaitingLimit = 10'000;  // calls of one group
constexpr size_t kScopeLimit = 100'000;
constexpr size_t kCommunicationLimit = 1'000'000;

// Names like layers.3.mlp.gate_up are module paths; "ProfilerStep#6" or "forward pass" are not.
bool is_module_path(std::string_view name) {
  bool dot = false;
  for (const char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '.';
    if (!word) return false;
    dot = dot || c == '.';
  }
  return dot;
}

}  // namespace

ProcessBuilder::ProcessBuilder(TraceDb& db, const gpu::KernelRules& rules)
    : db_(db), rules_(rules) {}

int64_t ProcessBuilder::lost() const {
  int64_t sum = 0;
  for (const auto& [kind, count] : losses_) sum += count;
  return sum;
}

uint32_t ProcessBuilder::thread(int64_t process, int64_t thread) {
  if (last_thread_index_ != kNoThread && last_thread_ == std::pair(process, thread)) {
    return last_thread_index_;
  }
  last_thread_ = {process, thread};
  const auto [entry, fresh] =
      thread_index_.try_emplace(last_thread_, static_cast<uint32_t>(threads_.size()));
  if (fresh) threads_.push_back(thread);
  return last_thread_index_ = entry->second;
}

uint32_t ProcessBuilder::add_communication(gpu::CollectiveFacts facts) {
  if (communications_.size() > kCommunicationLimit) return 0;
  communications_.push_back(std::move(facts));
  return static_cast<uint32_t>(communications_.size() - 1);
}

uint32_t ProcessBuilder::kernel_name(std::string_view name) {
  const auto id = static_cast<uint32_t>(db_.intern(name).value);
  if (identities_.find(id) == identities_.end()) identities_.emplace(id, rules_.identify(name));
  return id;
}

uint32_t ProcessBuilder::range_name(std::string_view name, RangeClass range_class) {
  const auto id = static_cast<uint32_t>(db_.intern(name).value);
  if (range_class == RangeClass::module || is_module_path(name)) {
    if (path_names_.size() < kScopeLimit) path_names_.try_emplace(id, name);
  } else if (functions_.size() < kScopeLimit && functions_.find(id) == functions_.end()) {
    if (std::string function = gpu::collective_function(name); !function.empty()) {
      functions_.emplace(id, std::move(function));
    }
  }
  return id;
}

std::vector<ImportedProcess> ProcessBuilder::finish(int64_t base_ns, StepNames* steps) {
  base_ns_ = base_ns;
  row.start_ns += base_ns;
  row.end_ns += base_ns;
  row.complete = losses_.empty();
  finished_ = true;
  add_processes();
  LaunchedSorter launched;
  list_captured(launched);
  match_launches(launched);
  StreamSorter located;
  place_in_ranges(launched, located);
  make_ops(located);
  write_ops(steps);
  write_losses();
  const auto source = std::make_shared<OperandSource>(
      OperandSource{.operands = operands_, .scopes = scopes_, .replayed = replayed_});
  for (ImportedProcess& process : processes_) process.source = source;
  return std::move(processes_);
}

bool ProcessBuilder::all_devices_alike() const {
  return !devices.empty() && std::ranges::all_of(devices, [&](const auto& entry) {
    return entry.second.name == devices.begin()->second.name;
  });
}

// Numbers of activities and of properties may differ (visible devices); GPUs of one machine that
// all have one name need no number.
gpu::DeviceFacts ProcessBuilder::device_facts(int64_t device, bool all_alike) const {
  gpu::DeviceFacts facts;
  if (const auto own = devices.find(device); own != devices.end()) {
    facts = own->second;
  } else if (all_alike) {
    facts = devices.begin()->second;
  }
  if (const auto known = known_device(facts.name, facts.memory_bytes)) {
    if (!facts.cache_bytes) facts.cache_bytes = known->cache_bytes;
    if (!facts.bandwidth_bytes_per_s) {
      facts.bandwidth_bytes_per_s = known->memory_bandwidth_bytes_per_s;
    }
  }
  if (facts.name.empty()) facts.name = "unknown";
  return facts;
}

// One process for each GPU that ran kernels. Streams that only copied belong to the first one: a
// peer's memory may lie on a GPU that the process never computes on.
void ProcessBuilder::add_processes() {
  std::map<int64_t, size_t> process_of_device;
  for (size_t i = 0; i < streams_.size(); ++i) {
    if (runs_kernels_[i]) process_of_device.try_emplace(streams_[i].device);
  }
  size_t count = 0;
  for (auto& [device, process] : process_of_device) process = count++;
  count = std::max<size_t>(count, 1);
  const auto gpus = static_cast<int64_t>(count);
  for (size_t i = 0; i < count; ++i) {
    ProcessRow own = row;
    if (count > 1 && row.rank) {
      own.rank = *row.rank * gpus + static_cast<int64_t>(i);
      if (row.world_size) own.world_size = *row.world_size * gpus;
    }
    processes_.push_back({.id = db_.add(own),
                          .rank = own.rank,
                          .world_size = own.world_size,
                          .rank_name = rank_name,
                          .source_file = source_file});
  }
  std::vector<bool> has_streams(count);
  for (const auto& stream : streams_) {
    const auto found = process_of_device.find(stream.device);
    const size_t process = found == process_of_device.end() ? 0 : found->second;
    int64_t& lowest = processes_[process].first_device;
    lowest = has_streams[process] ? std::min(lowest, stream.device) : stream.device;
    has_streams[process] = true;
    process_of_stream_.push_back(process);
  }
  kept_.resize(count);
  first_range_ = db_.query_integer("SELECT MAX(id) FROM range").value_or(0) + 1;
  size_t next = 0;
  const bool all_alike = all_devices_alike();
  stream_rows_ = streams_.add_rows(
      db_, [&](const auto&) { return processes_[process_of_stream_[next++]].id; }, row.host,
      [&](int64_t device) {
        gpu::DeviceFacts facts = device_facts(device, all_alike);
        const auto found = process_of_device.find(device);
        auto& bandwidth =
            processes_[found == process_of_device.end() ? 0 : found->second].bandwidth_bytes_per_s;
        if (!bandwidth) bandwidth = facts.bandwidth_bytes_per_s;
        return facts;
      });
}

// 1. Correlation.
void ProcessBuilder::match_launches(LaunchedSorter& out) {
  std::vector<GpuActivity> same_launch;
  const auto pass_on = [&] {
    if (same_launch.size() > 1) number_replay(same_launch);
    for (const GpuActivity& ready : same_launch) out.add(ready);
    same_launch.clear();
  };
  calls_.run([&](GpuActivity& activity, const Launch* launch, bool same) {
    if (!same || same_launch.size() == kReplayLimit) pass_on();
    activity.launched = launch != nullptr;
    activity.thread = launch == nullptr ? kNoThread : launch->thread;
    activity.launch_ns = launch == nullptr ? activity.start_ns : launch->start_ns;
    if (launch == nullptr) ++processes_[process_of(activity)].unmatched;
    same_launch.push_back(activity);
  });
  pass_on();
}

// Activities of one launch: a graph. They get their position in it, counted stream by stream
// because streams interleave differently from replay to replay; replays with the same sequence of
// kernels are the same graph.
void ProcessBuilder::number_replay(std::vector<GpuActivity>& group) {
  std::ranges::stable_sort(group, ByStream());
  uint64_t signature = group.size();
  for (const GpuActivity& activity : group) signature = mixed_hash(signature, activity.name);
  const auto [entry, fresh] =
      graphs_.try_emplace(signature, static_cast<uint32_t>(graphs_.size() + 1));
  if (fresh) note_replayed(group);
  for (size_t i = 0; i < group.size(); ++i) {
    group[i].from_replay = true;
    if (entry->second <= replayed_.size()) group[i].replay = entry->second;
    group[i].in_replay = static_cast<uint32_t>(i);
    if (group[i].graph == 0) group[i].graph = entry->second;
    if (group[i].graph_node == gpu::kNoNode) group[i].graph_node = static_cast<int64_t>(i);
  }
}

// 2. Ranges. Launches and ranges both sorted by thread, then time; one sweep with a stack.
void ProcessBuilder::place_in_ranges(LaunchedSorter& launched, StreamSorter& out) {
  launched.sort();
  ranges_.sort();
  std::vector<OpenRange> open;
  HostRange range;
  bool more = ranges_.next(range);
  GpuActivity activity;
  uint32_t calling_thread = kNoThread;
  while (launched.next(activity)) {
    while (more && (range.thread < activity.thread ||
                    (range.thread == activity.thread && range.start_ns <= activity.launch_ns))) {
      if (range.call != 0 && !waiting_launches_.empty()) pair_waiting(out);
      if (range.call != 0 && waiting_calls_.size() < kWaitingLimit) {
        if (range.thread != calling_thread) pair_waiting(out);
        calling_thread = range.thread;
        waiting_calls_.push_back(range.call);
      }
      open_range(range, open);
      more = ranges_.next(range);
    }
    if (activity.capture != 0) {
      note_captured(activity, open);
      continue;
    }
    if (activity.launched) locate(activity, open);
    const bool may_be_paired = !waiting_calls_.empty() && activity.launched &&
                               activity.thread == calling_thread && !activity.is_copy &&
                               !activity.from_replay && activity.communication == 0 &&
                               gpu::communicates(identity(activity.name).kernel_class);
    if (!may_be_paired || waiting_launches_.size() >= kWaitingLimit) {
      out.add(activity);
    } else {
      waiting_launches_.push_back(activity);
    }
  }
  pair_waiting(out);
  for (; more; more = ranges_.next(range)) open_range(range, open);
}

// Gives the waiting kernels what the library's calls before them say.
void ProcessBuilder::pair_waiting(StreamSorter& out) {
  std::vector<gpu::CollectiveFacts> calls;
  std::vector<std::string> functions;
  for (const uint32_t call : waiting_calls_) calls.push_back(communications_[call]);
  for (const GpuActivity& launch : waiting_launches_) {
    functions.push_back(identity(launch.name).function);
  }
  std::vector<gpu::CollectiveFacts> facts = gpu::pair_calls(calls, functions, kPaired);
  for (size_t i = 0; i < facts.size(); ++i) {
    if (facts[i].confidence != 0 && (facts[i].bytes || facts[i].communicator)) {
      const auto ranks = communicator_ranks.find(facts[i].communicator.value_or(0));
      if (ranks != communicator_ranks.end()) facts[i].ranks = ranks->second;
      waiting_launches_[i].communication = add_communication(std::move(facts[i]));
    }
    out.add(waiting_launches_[i]);
  }
  waiting_calls_.clear();
  waiting_launches_.clear();
}

uint32_t ProcessBuilder::scope_of(const std::string& text) {
  if (scopes_.size() > kScopeLimit) return 0;
  const auto [entry, fresh] = scope_index_.try_emplace(text, static_cast<uint32_t>(scopes_.size()));
  if (fresh) scopes_.push_back(text);
  return entry->second;
}

void ProcessBuilder::open_range(const HostRange& range, std::vector<OpenRange>& open) {
  while (!open.empty() &&
         (open.back().range.thread != range.thread || open.back().range.end_ns <= range.start_ns)) {
    open.pop_back();
  }
  const size_t annotated = std::min(processes_.size(), kAnnotatedGpus);
  if (!range.nests) {
    for (size_t process = 0; process < annotated; ++process) {
      RangeRow apart{.stream = thread_row(range.thread, process),
                     .kind = RangeKind::start_end,
                     .domain = {range.domain},
                     .name = {range.name},
                     .start_ns = range.start_ns + base_ns_};
      if (!range.open) apart.end_ns = range.end_ns + base_ns_;
      db_.add(apart);
    }
    return;
  }
  if (open.size() == kOpenRangeLimit) {
    ++dropped_ranges_;
    return;
  }
  OpenRange entry{.range = range, .number = ++opened_};
  if (!open.empty()) {
    // Times in whole µs let a child seem to outlive its parent.
    entry.range.end_ns = std::min(range.end_ns, open.back().range.end_ns);
    entry.scope = open.back().scope;
  }
  if (const auto path = path_names_.find(range.name); path != path_names_.end()) {
    const std::string& outer = scopes_[entry.scope];
    const bool relative = range.range_class == RangeClass::module && !outer.empty();
    entry.scope = scope_of(relative ? outer + "/" + path->second : path->second);
  }
  open.push_back(entry);
  if (range.range_class != RangeClass::annotation) return;
  for (size_t process = 0; process < annotated; ++process) keep_range(open, process);
}

// Writes the innermost range, and those around it first, unless they are written.
RangeId ProcessBuilder::keep_range(const std::vector<OpenRange>& open, size_t process) {
  std::vector<KeptRange>& kept = kept_[process];
  while (!kept.empty() &&
         (kept.size() > open.size() || kept.back().number != open[kept.size() - 1].number)) {
    kept.pop_back();
  }
  for (size_t i = kept.size(); i < open.size(); ++i) {
    const HostRange& range = open[i].range;
    RangeRow row_of_range{.stream = thread_row(range.thread, process),
                          .parent = kept.empty() ? RangeId{} : kept.back().row,
                          .domain = {range.domain},
                          .name = {range.name},
                          .depth = static_cast<int64_t>(i),
                          .start_ns = range.start_ns + base_ns_};
    if (!range.open) row_of_range.end_ns = range.end_ns + base_ns_;
    kept.push_back({open[i].number, db_.add(row_of_range)});
  }
  return kept.back().row;
}

void ProcessBuilder::close_ranges(const GpuActivity& launched, std::vector<OpenRange>& open) {
  while (!open.empty() && (open.back().range.thread != launched.thread ||
                           open.back().range.end_ns < launched.launch_ns)) {
    open.pop_back();
  }
}

void ProcessBuilder::locate(GpuActivity& activity, std::vector<OpenRange>& open) {
  close_ranges(activity, open);
  if (open.empty()) return;
  activity.range = static_cast<uint32_t>(keep_range(open, process_of(activity)).value);
  activity.scope = open.back().scope;
  const gpu::KernelIdentity& kernel = identity(activity.name);
  const bool communicates = gpu::communicates(kernel.kernel_class);
  // A replay's kernels were captured elsewhere: the operators around the launch are not theirs.
  if (activity.from_replay) {
    activity.scope = 0;
    activity.tokens = tokens_of(open);
    return;
  }
  for (size_t i = open.size(); i-- > 0;) {
    OpenRange& around = open[i];
    if (communicates && activity.communication == 0 && around.range.communication != 0) {
      activity.communication = around.range.communication;
      return;
    }
    if (around.range.operands == 0 || activity.operands != 0) continue;
    if (communicates) {
      if (functions_.find(around.range.name) == functions_.end()) continue;
    } else if (around.operands_taken || !gpu::reads_operands(kernel.kernel_class)) {
      return;  // the innermost operator's main kernel has them already
    }
    around.operands_taken = true;
    activity.operands = around.range.operands;
    activity.op_name = around.range.name;
    if (!communicates) return;
  }
}

StreamId ProcessBuilder::thread_row(uint32_t thread, size_t process) {
  StreamId& row_of_thread = thread_rows_[{thread, process}];
  if (!row_of_thread) {
    row_of_thread = db_.add(StreamRow{.process = processes_[process].id,
                                      .kind = StreamKind::thread,
                                      .native_id = threads_[thread]});
  }
  return row_of_thread;
}

}  // namespace preserve::import
