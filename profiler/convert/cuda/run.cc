// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/run.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>

namespace preserve::cuda {
namespace {

constexpr uint32_t kKernelNode = 0;   // CU_GRAPH_NODE_TYPE_KERNEL
constexpr uint32_t kPoolCreated = 1;  // CUpti_ActivityMemoryPoolOperationType

// Later than any clock of this century: sums of two such times do not overflow.
constexpr int64_t kLatestNs = int64_t{1} << 62;

// By CopyKind.
constexpr const char* kCopyNames[] = {"memcpy",      "memcpy HtoD", "memcpy DtoH", "memcpy DtoD",
                                      "memcpy HtoH", "memcpy PtoP", "memset"};

uint32_t product(const uint32_t (&dims)[3]) {
  const uint64_t low = uint64_t{dims[0]} * dims[1];
  const uint64_t all = low > UINT32_MAX ? UINT32_MAX : low * dims[2];
  return static_cast<uint32_t>(std::min<uint64_t>(all, UINT32_MAX));
}

}  // namespace

std::string next_word(std::string_view& text) {
  const size_t end = std::min(text.find('\0'), text.size());
  std::string word(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

void RunReader::add(const spool::RecordHeader& head, std::string_view tail,
                    const Position& position) {
  static constexpr void (RunReader::*kReads[])(const SpoolRecord&, const Position&) = {
      // by RecordType
      &RunReader::read<KernelBody>,      &RunReader::read<CopyBody>,
      &RunReader::read<SynchronizeBody>, &RunReader::read<MemoryBody>,
      &RunReader::read<PoolBody>,        &RunReader::read<OverheadBody>,
      &RunReader::read<ExternalBody>,    &RunReader::read<GraphBody>,
      &RunReader::read<DeviceBody>,      nullptr,  // context: its streams say which device it is on
      &RunReader::read<NameBody>,        &RunReader::read<LostBody>,
      &RunReader::read<ClockBody>,       &RunReader::read<StateBody>,
      &RunReader::read<LaunchBody>,      &RunReader::read<FunctionBody>,
      &RunReader::read<NodeBody>,        &RunReader::read<MappingBody>,
      &RunReader::read<TensorMapBody>,   &RunReader::read<CommunicatorBody>,
      &RunReader::read<CollectiveBody>,  &RunReader::read<CounterSetupBody>,
      &RunReader::read<CounterBody>,     &RunReader::read<ExecutableBody>};
  constexpr auto kFirst = static_cast<size_t>(RecordType::first);
  static_assert(std::size(kReads) == static_cast<size_t>(RecordType::count_) - kFirst);
  ++order_;
  const size_t index = static_cast<size_t>(head.type) - kFirst;
  if (index < std::size(kReads) && kReads[index] != nullptr) {
    (this->*kReads[index])({head, tail}, position);
  }
}

void RunReader::add(LibraryCall call, const Position& position) {
  call.tid = position.tid;
  call.order = ++order_;
  run_.calls.push_back(std::move(call));
}

uint32_t RunReader::constant_name(std::string_view text) {
  const auto found = text_index_.find(text);
  if (found != text_index_.end()) return found->second;
  const auto index = static_cast<uint32_t>(run_.names.size());
  run_.names.emplace_back(text);
  texts_.emplace_back(text);
  text_index_.emplace(texts_.back(), index);
  return index;
}

uint32_t RunReader::name(uint32_t spool_id) {
  const auto found = name_index_.find(spool_id);
  return found == name_index_.end() ? constant_name("(unknown kernel)") : found->second;
}

void RunReader::add_activity(const Place& place, int64_t start_ns, int64_t end_ns,
                             Activity activity) {
  ++run_.losses.received;
  if (start_ns == 0 && end_ns == 0) {
    ++run_.losses.zero_timestamp;
    return;
  }
  if (end_ns < start_ns || start_ns <= 0 || end_ns > kLatestNs) {
    ++run_.losses.impossible_time;
    return;
  }
  activity.start_ns = start_ns;
  activity.end_ns = end_ns;
  if (place.graph_node != 0) activity.graph_node = static_cast<int64_t>(place.graph_node);
  activity.graph = place.graph;
  activity.correlation = place.correlation;
  activity.stream = run_.streams.index({place.device, place.context, place.stream});
  run_.activities.push_back(activity);
}

void RunReader::take(const KernelBody& body, const Record& /*record*/) {
  Activity activity;
  activity.name = name(body.name);
  activity.blocks = product(body.grid);
  run_.newest_kernel = std::max<uint32_t>(run_.newest_kernel, body.generation);
  if (run_.oldest_kernel == 0 || body.generation < run_.oldest_kernel) {
    run_.oldest_kernel = body.generation;
  }
  add_activity(body.place, body.start_ns, body.end_ns, activity);
}

void RunReader::take(const CopyBody& body, const Record& /*record*/) {
  const auto kind = static_cast<size_t>(body.kind);
  Activity activity;
  activity.name = constant_name(kCopyNames[kind < std::size(kCopyNames) ? kind : 0]);
  activity.bytes = body.bytes;
  activity.is_copy = true;
  add_activity(body.place, body.start_ns, body.end_ns, activity);
}

void RunReader::take(const SynchronizeBody& body, const Record& /*record*/) {
  if (body.start_ns <= 0 || body.end_ns < body.start_ns || body.end_ns > kLatestNs) {
    ++run_.losses.waits_without_time;
    return;
  }
  run_.waits.push_back({body.start_ns, body.end_ns, body.type, body.context, body.stream});
}

void RunReader::take(const MemoryBody& body, const Record& /*record*/) {
  if (body.time_ns < 0 || body.time_ns > kLatestNs) {
    ++run_.losses.damaged;
    return;
  }
  memory_.push_back({body.time_ns, body.address, body.bytes,
                     body.release != 0 ? MemoryEvent::release : MemoryEvent::allocate, true});
}

void RunReader::take(const MappingBody& body, const Record& record) {
  memory_.push_back({record.position.time_ns, body.address, body.bytes,
                     body.unmapped != 0 ? MemoryEvent::unmap : MemoryEvent::allocate, false});
}

void RunReader::take(const NameBody& body, const Record& record) {
  name_index_[body.id] = constant_name(record.text);
}

void RunReader::take(const DeviceBody& body, const Record& record) {
  run_.devices[body.id] = {body, std::string(record.text)};
}

void RunReader::take(const GraphBody& body, const Record& /*record*/) {
  if (body.start_ns > 0 && body.end_ns >= body.start_ns && body.end_ns <= kLatestNs) {
    run_.graphs.push_back(body);
  } else {  // one that was launched by the device has no start of its own
    ++run_.losses.received;
    ++run_.losses.zero_timestamp;
  }
}

void RunReader::take(const OverheadBody& body, const Record& /*record*/) {
  auto& [count, total_ns] = run_.overheads[body.kind];
  ++count;
  const bool possible =
      body.start_ns > 0 && body.end_ns > body.start_ns && body.end_ns <= kLatestNs;
  if (possible && __builtin_add_overflow(total_ns, body.end_ns - body.start_ns, &total_ns)) {
    total_ns = INT64_MAX;
  }
}

void RunReader::take(const TensorMapBody& body, const Record& record) {
  run_.tensor_maps.push_back({record.position.time_ns, body});
}

void RunReader::take(const CommunicatorBody& body, const Record& /*record*/) {
  run_.communicator_ranks[body.id] = body.ranks;
}

void RunReader::take(const ExternalBody& body, const Record& /*record*/) {
  ++run_.external_ids[body.kind];
}

void RunReader::take(const PoolBody& body, const Record& /*record*/) {
  if (body.operation == kPoolCreated) ++run_.pools.created;
  run_.pools.largest_bytes = std::max(run_.pools.largest_bytes, body.bytes);
}

// Allocations come from the writer thread, mappings from the threads that made them.
void RunReader::build_allocations() {
  std::ranges::stable_sort(memory_, {}, &MemoryEvent::time_ns);
  std::map<uint64_t, size_t> live;  // by address
  const auto end = [&](std::map<uint64_t, size_t>::iterator entry, int64_t time_ns) {
    run_.allocations[entry->second].to_ns = time_ns;
    return live.erase(entry);
  };
  for (const MemoryEvent& event : memory_) {
    auto known = live.find(event.address);
    if (event.kind == MemoryEvent::release) {
      if (known != live.end()) end(known, event.time_ns);
    } else if (event.kind == MemoryEvent::unmap) {
      // One call may unmap many mappings.
      const auto bytes = static_cast<uint64_t>(std::max<int64_t>(event.bytes, 0));
      for (auto at = live.lower_bound(event.address);
           at != live.end() && at->first - event.address < bytes;) {
        at = end(at, event.time_ns);
      }
    } else if (event.address != 0 && event.bytes > 0) {
      if (known != live.end()) end(known, event.time_ns);  // its release was lost
      live[event.address] = run_.allocations.size();
      run_.allocations.push_back({event.time_ns, INT64_MAX, event.address, event.bytes});
    }
  }
}

void RunReader::take(const LaunchBody& body, const Record& record) {
  Launch launch{.time_ns = record.position.time_ns,
                .stream = body.stream,
                .function = body.function,
                .correlation = body.correlation,
                .outer_correlation = body.outer_correlation,
                .tid = record.position.tid,
                .context = body.context,
                .range = record.position.range,
                .order = order_,
                .kind = body.kind,
                .parameters_cut = (body.flags & kParametersCut) != 0};
  const std::string_view parameters = record.blob;
  if (body.parameter_bytes > 0 && body.parameter_bytes <= kMaxParameterBytes &&
      parameters.size() >= body.parameter_bytes &&
      run_.parameters.size() < kNone - size_t{kMaxParameterBytes}) {
    launch.parameters = static_cast<uint32_t>(run_.parameters.size());
    launch.parameter_bytes = body.parameter_bytes;
    run_.parameters.append(parameters.data(), body.parameter_bytes);
  }
  last_launch_[record.position.tid] = static_cast<uint32_t>(run_.launches.size());
  run_.launches.push_back(launch);
}

void RunReader::take(const FunctionBody& body, const Record& record) {
  Function function{.name = constant_name(record.text)};
  const std::string_view layout = record.blob;
  if (body.parameters <= kMaxParameters &&
      layout.size() >= body.parameters * sizeof(ParameterLayout)) {
    function.layout.resize(body.parameters);
    if (body.parameters > 0) {
      std::memcpy(function.layout.data(), layout.data(), body.parameters * sizeof(ParameterLayout));
    }
    function.layout_known = true;
  }
  run_.functions[body.id] = std::move(function);
}

void RunReader::take(const NodeBody& body, const Record& record) {
  Node node{record.position.time_ns, body.node, body.original, kNone, body.event};
  const auto last = last_launch_.find(record.position.tid);
  // Cloning copies nodes; the call around it (an instantiation) says nothing about them.
  if (body.in_launch != 0 && last != last_launch_.end() && body.event != NodeEvent::cloned) {
    node.launch = last->second;
  }
  run_.nodes.push_back(node);
  if (body.event != NodeEvent::cloned) return;
  Cloned& cloned = cloned_[record.position.tid];
  if (cloned.graph != body.graph) cloned = {body.graph, {}};
  if (body.type == kKernelNode) cloned.kernels.push_back(body.node);
}

void RunReader::take(const CollectiveBody& body, const Record& record) {
  std::string_view words = record.text;
  LibraryCall call;
  call.function = gpu::collective_function(next_word(words));
  call.dtype = next_word(words);
  call.algorithm = next_word(words);
  call.protocol = next_word(words);
  const auto element = gpu::dtype_bytes(call.dtype);
  if (element && body.count <= static_cast<uint64_t>(INT64_MAX / *element)) {
    call.bytes = static_cast<int64_t>(body.count) * *element;
  }
  if (body.communicator != 0) call.communicator = static_cast<int64_t>(body.communicator);
  // kNoSequence is one of the numbers beyond.
  if (body.sequence <= INT64_MAX) call.sequence = static_cast<int64_t>(body.sequence);
  if (body.peer >= 0) call.peer = body.peer;
  call.from_plugin = true;
  add(std::move(call), record.position);
}

void RunReader::take(const LostBody& body, const Record& /*record*/) {
  static constexpr int64_t Losses::*kPlaces[] = {
      // by LossPlace
      &Losses::dropped,        &Losses::discarded_buffers,
      &Losses::unreadable,     &Losses::unknown_kind,
      &Losses::spool,          &Losses::counter_ranges,
      &Losses::counter_failed, &Losses::counter_skipped,
      &Losses::overwritten};
  const auto place = static_cast<size_t>(body.place);
  if (place < std::size(kPlaces)) run_.losses.*kPlaces[place] += static_cast<int64_t>(body.count);
}

void RunReader::take(const ClockBody& body, const Record& /*record*/) {
  run_.cupti_version = body.cupti_version;
  if (body.monotonic_ns < 0 || body.monotonic_ns > kLatestNs || body.realtime_ns < 0 ||
      body.realtime_ns > kLatestNs) {
    ++run_.losses.damaged;
    return;
  }
  if (body.activity_clock == ActivityClock::realtime) {
    clock_points_.push_back({body.realtime_ns, body.monotonic_ns - body.realtime_ns});
  }
}

// CUPTI without a time stamp callback runs on CLOCK_REALTIME, which may step: each time is shifted
// by the offset that was measured last before it.
void RunReader::shift_activity_times() {
  if (clock_points_.empty()) return;
  std::ranges::sort(clock_points_, {}, &ClockPoint::realtime_ns);
  const auto shifted = [&](int64_t time_ns) {
    auto after = std::ranges::upper_bound(clock_points_, time_ns, {}, &ClockPoint::realtime_ns);
    if (after != clock_points_.begin()) --after;
    return time_ns + after->offset_ns;
  };
  for (Activity& activity : run_.activities) {
    const int64_t dur_ns = activity.end_ns - activity.start_ns;
    activity.start_ns = shifted(activity.start_ns);
    activity.end_ns = activity.start_ns + dur_ns;
  }
  for (MemoryEvent& event : memory_) {
    if (event.on_activity_clock) event.time_ns = shifted(event.time_ns);
  }
  for (Wait& wait : run_.waits) {
    const int64_t dur_ns = wait.end_ns - wait.start_ns;
    wait.start_ns = shifted(wait.start_ns);
    wait.end_ns = wait.start_ns + dur_ns;
  }
  for (GraphBody& graph : run_.graphs) {
    graph.start_ns = shifted(graph.start_ns);
    graph.end_ns = shifted(graph.end_ns);
  }
}

void RunReader::take(const StateBody& body, const Record& record) {
  run_.states.emplace_back(body.state, std::string(record.text));
  if (body.state == State::recording) {
    run_.recorded.emplace_back(record.position.time_ns, INT64_MAX);
  } else if (body.state != State::noted && !run_.recorded.empty()) {
    int64_t& end_ns = run_.recorded.back().second;
    end_ns = std::min(end_ns, record.position.time_ns);
  }
}

// Launches of graphs are recorded from start to end (session.cc); those count that were launched
// inside the capture range, or ran there where the launch is not known.
void RunReader::leave_out_graphs_beyond_ranges() {
  if (run_.graphs.empty() || run_.states.empty()) return;
  std::set<uint32_t> launched;
  for (const Launch& launch : run_.launches) {
    if (launch.kind != LaunchKind::graph) continue;
    launched.insert(launch.correlation);
    if (launch.outer_correlation != 0) launched.insert(launch.outer_correlation);
  }
  // Capture ranges may be many: by their start, and how far all up to here reach.
  std::vector<std::pair<int64_t, int64_t>> reach = run_.recorded;
  std::ranges::sort(reach);
  for (size_t i = 1; i < reach.size(); ++i) {
    reach[i].second = std::max(reach[i].second, reach[i - 1].second);
  }
  const auto beyond = [&](const GraphBody& graph) {
    const auto after =
        std::upper_bound(reach.begin(), reach.end(), graph.start_ns,
                         [](int64_t ns, const auto& range) { return ns < range.first; });
    return launched.count(graph.place.correlation) == 0 &&
           (after == reach.begin() || graph.start_ns >= (after - 1)->second);
  };
  std::erase_if(run_.graphs, beyond);
}

Run RunReader::finish() {
  shift_activity_times();
  leave_out_graphs_beyond_ranges();
  build_allocations();
  return std::move(run_);
}

}  // namespace preserve::cuda
