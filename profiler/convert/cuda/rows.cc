// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "profiler/convert/cuda/demangle.h"
#include "profiler/convert/cuda/findings.h"
#include "profiler/convert/cuda/kernel_arguments.h"
#include "profiler/convert/cuda/range_projection.h"
#include "profiler/gpu/activity_rows.h"

namespace preserve::cuda {
namespace {

using gpu::KernelClass;
using gpu::KernelIdentity;

std::optional<int64_t> positive(int64_t value) {
  return value > 0 ? std::optional<int64_t>(value) : std::nullopt;
}

gpu::StreamTable::Stream stream_of(const GraphBody& graph) {
  return {graph.place.device, graph.place.context, graph.place.stream};
}

std::vector<StreamId> add_streams(Run& run, const RowTarget& target) {
  for (const GraphBody& graph : run.graphs) run.streams.index(stream_of(graph));
  std::map<int64_t, const CounterSetup*> setups;  // the last of each device with a chip
  for (const CounterSetup& setup : run.counter_setups) {
    if (!setup.chip.empty()) setups[setup.body.device] = &setup;
  }
  const auto facts_of = [&](int64_t device) {
    gpu::DeviceFacts facts{"unknown GPU"};
    const auto known = run.devices.find(static_cast<uint32_t>(device));
    if (known != run.devices.end()) {
      const auto& [body, name] = known->second;
      if (!name.empty()) facts.name = name;
      facts.cache_bytes = positive(body.cache_bytes);
      facts.memory_bytes = positive(body.memory_bytes);
      facts.bandwidth_bytes_per_s = positive(body.bandwidth_bytes_per_s);
      facts.units = positive(body.units);
    }
    const auto setup = setups.find(device);
    if (setup != setups.end()) facts.name = "NVIDIA " + setup->second->chip;
    return facts;
  };
  return run.streams.add_rows(
      target.db, [&](const gpu::StreamTable::Stream&) { return target.process; }, target.host,
      facts_of,
      [](const gpu::StreamTable::Stream& stream) {
        return fmt::format("GPU {} stream {}", stream.device, stream.number);
      });
}

// Of CUpti_ActivitySynchronizationType.
const char* wait_name(uint32_t type) {
  static constexpr const char* kNames[] = {"wait", "wait for event", "stream waits for event",
                                           "wait for stream", "wait for context"};
  return kNames[type < std::size(kNames) ? type : 0];
}

class OpWriter {
 public:
  OpWriter(Run& run, const RowTarget& target) : run_(run), target_(target) {
    // What is known of each name, asked once per name, as whoever writes rules sees it.
    for (const std::string& name : demangled(run.names)) {
      identities_.push_back(target.rules.identify(name));
      names_.push_back(target.db.intern(name.empty() ? "(no name)" : name));
    }
    facts_ = assign_calls(run, identities_, summary_.calls);
    streams_ = add_streams(run, target);
  }

  RowSummary write() {
    RangeProjection projection(run_, target_.ranges);
    GrowingArray<RangeProjection::Place> places;
    for (const Activity& activity : run_.activities) places.push_back(projection.place(activity));
    const GrowingArray<RangeId> projected = projection.write(target_.db, streams_);
    const Operands operands(run_, identities_, target_.named_memory, bandwidth(run_),
                            target_.process, target_.db);
    summary_.operands = operands.summary();
    for (size_t i = 0; i < places.size(); ++i) {
      const RangeProjection::Place& place = places[i];
      const Activity& activity = run_.activities[i];
      const OpId op = write_op(activity, place.projected != 0 ? projected[place.projected - 1]
                                         : place.host != 0    ? target_.ranges[place.host - 1].row
                                                              : RangeId{});
      if (!activity.is_copy)
        write_accesses(op, activity, operands.of(activity.origin), projection, place);
    }
    write_whole_graphs();
    write_waits();
    return summary_;
  }

 private:
  static int64_t bandwidth(const Run& run) {
    int64_t best = 0;
    for (const auto& [id, device] : run.devices) {
      best = std::max(best, device.first.bandwidth_bytes_per_s);
    }
    return best;
  }

  void write_accesses(OpId op, const Activity& activity, const std::vector<Operand>& operands,
                      const RangeProjection& projection, const RangeProjection::Place& place) {
    int64_t number = 0;
    for (const Operand& operand : operands) {
      target_.db.add(AccessRow{op, number++, operand.tensor, operand.offset_bytes, operand.bytes,
                               operand.mode, "params", operand.confidence});
    }
    const uint32_t host = projection.host_range(place);
    const KernelClass kernel_class = identities_[activity.name].kernel_class;
    const bool streams = kernel_class == KernelClass::matmul ||
                         kernel_class == KernelClass::attention ||
                         kernel_class == KernelClass::embedding;
    if (!operands.empty() || !streams || host == 0 || !target_.add_by_range) return;
    target_.add_by_range(op, run_.streams[activity.stream].device, target_.ranges[host - 1].name,
                         uint64_t{place.projected} << 32 | place.host, activity.start_ns);
  }

  OpId write_op(const Activity& activity, RangeId range) {
    const KernelIdentity& identity = identities_[activity.name];
    const OpKind kind = activity.is_copy ? OpKind::copy : gpu::op_kind_of(identity.kernel_class);
    const OpId op = gpu::add_op(target_.db, activity, streams_[activity.stream], kind,
                                names_[activity.name], range);
    ++summary_.ops;
    summary_.copies += activity.is_copy;
    if (activity.counters != kNone) {
      const auto& values = run_.counter_values[activity.counters];
      for (size_t i = 0; i < values.size(); ++i) {
        if (values[i] >= 0) target_.db.add_counter(op, kCounterNames[i], values[i]);
      }
    }
    if (kind == OpKind::collective || kind == OpKind::p2p) {
      write_collective(op, activity, identity);
    }
    return op;
  }

  void write_collective(OpId op, const Activity& activity, const KernelIdentity& identity) {
    gpu::CollectiveFacts facts;
    if (const auto known = facts_.find(activity.origin);
        activity.origin != kNone && known != facts_.end()) {
      facts = known->second;
    }
    if (const auto own = own_arguments(activity); !facts.bytes && own) facts = *own;
    if (facts.function.empty() || facts.function == "unknown") facts.function = identity.function;
    // A replay repeats the captured call, but not its number.
    if (activity.graph_node != gpu::kNoNode) facts.sequence.reset();
    gpu::add_collective(target_.db, op, facts, true);
    // How much of the device it holds: a stand-in at replay needs it.
    if (activity.blocks > 0) target_.db.add_counter(op, "blocks", activity.blocks);
    ++summary_.collectives;
  }

  // What the kernel's arguments say.
  std::optional<gpu::CollectiveFacts> own_arguments(const Activity& activity) const {
    if (activity.origin == kNone) return std::nullopt;
    return facts_from_arguments(run_, run_.launches[activity.origin], run_.names[activity.name]);
  }

  // Launches of graphs that were recorded as a whole: known time, unknown content.
  void write_whole_graphs() {
    if (run_.graphs.empty()) return;
    // The rows of a stream lie together: whoever looks for its steps goes through no others.
    std::vector<std::pair<uint32_t, GraphBody>> graphs;
    graphs.reserve(run_.graphs.size());
    for (const GraphBody& graph : run_.graphs) {
      graphs.emplace_back(run_.streams.index(stream_of(graph)), graph);
    }
    std::ranges::sort(graphs, [](const auto& a, const auto& b) {
      return std::pair(a.first, a.second.start_ns) < std::pair(b.first, b.second.start_ns);
    });
    const StringId name = target_.db.intern("CUDA graph");
    for (const auto& [stream, graph] : graphs) {
      OpRow row{streams_[stream], OpKind::other, name, graph.start_ns, graph.end_ns};
      row.correlation_id = graph.place.correlation;
      row.graph_id = graph.place.graph;
      target_.db.add(row);
      ++summary_.ops;
    }
  }

  // Waits are not operators: a step would be made of them. They are ranges on the stream that was
  // waited for, or on the first of its context.
  void write_waits() {
    if (run_.waits.empty()) return;
    const StringId domain = target_.db.intern("CUDA");
    std::map<int64_t, size_t> first_of_context;
    std::map<std::pair<int64_t, int64_t>, size_t> by_number;  // by context and number
    for (size_t i = 0; i < run_.streams.size(); ++i) {
      const gpu::StreamTable::Stream& stream = run_.streams[i];
      first_of_context.try_emplace(stream.context, i);
      by_number.insert_or_assign({stream.context, stream.number}, i);
    }
    for (const Wait& wait : run_.waits) {
      const auto first = first_of_context.find(wait.context);
      if (first == first_of_context.end()) continue;
      const auto numbered = by_number.find({wait.context, wait.stream});
      target_.db.add(RangeRow{
          .stream = streams_[numbered == by_number.end() ? first->second : numbered->second],
          .kind = RangeKind::start_end,
          .domain = domain,
          .name = target_.db.intern(wait_name(wait.type)),
          .start_ns = wait.start_ns,
          .end_ns = wait.end_ns});
      ++summary_.waits;
    }
  }

  Run& run_;
  const RowTarget& target_;
  std::vector<KernelIdentity> identities_;
  std::vector<StringId> names_;
  std::vector<StreamId> streams_;
  CollectivesByLaunch facts_;
  RowSummary summary_;
};

void write_losses(const Run& run, const RowSummary& summary, const RowTarget& target) {
  const Losses& lost = run.losses;
  const auto add = [&](const char* source, const char* kind, int64_t count) {
    if (count > 0) target.db.add_loss(target.process, source, kind, count);
  };
  const auto graphs = static_cast<int64_t>(run.graphs.size());
  add("cupti", "received",
      lost.received + graphs + lost.dropped + lost.unreadable + lost.unknown_kind + lost.spool +
          lost.overwritten);
  const auto counted = static_cast<int64_t>(run.counter_values.size());
  add("cupti", "written", summary.ops - counted);
  add("cupti", "dropped", lost.dropped);
  add("cupti", "zero_timestamp", lost.zero_timestamp);
  add("cupti", "impossible_time", lost.impossible_time);
  add("cupti", "unreadable", lost.unreadable);
  add("cupti", "unknown_kind", lost.unknown_kind);
  add("cupti", "missing", lost.spool);
  add("cupti", "overwritten", lost.overwritten);
  add("cupti_buffers", "received", lost.discarded_buffers);
  add("cupti_buffers", "dropped", lost.discarded_buffers);
  const auto waits = static_cast<int64_t>(run.waits.size());
  add("cuda_waits", "received", waits + lost.waits_without_time);
  add("cuda_waits", "written", summary.waits);
  add("cuda_waits", "zero_timestamp", lost.waits_without_time);
  add("cuda_waits", "unmatched", waits - summary.waits);
  const int64_t unplaced =
      lost.counter_unplaced + summary.counters.measured - summary.counters.given;
  add("counters", "received",
      summary.counters.measured + lost.counter_unplaced + lost.counter_ranges +
          lost.counter_failed);
  add("counters", "written", summary.counters.given);
  add("counters", "dropped", lost.counter_ranges);
  add("counters", "unreadable", lost.counter_failed);
  add("counters", "unmatched", unplaced);
  const auto coverage = [&](const char* source, int64_t all, int64_t found) {
    add(source, "received", all);
    add(source, "written", found);
    add(source, "unmatched", all - found);
  };
  coverage("cuda_launch", static_cast<int64_t>(run.activities.size()), summary.join.launched);
  coverage("cuda_graph_node", summary.join.graph_nodes, summary.join.resolved_nodes);
  coverage("nccl", summary.calls.calls, summary.calls.matched);
}

// Names of CUpti_ActivityOverheadKind (cupti_activity.h).
std::string overhead_name(uint32_t kind) {
  static constexpr const char* kNames[] = {
      "unknown",        "buffer_flush",     "instrumentation",     "resource",
      "module_loading", "function_loading", "command_buffer_full", "buffer_request",
      "unified_memory"};
  if (kind == 1) return "driver_compiler";
  const uint32_t index = kind >> 16;
  return (kind & 0xffff) == 0 && index < std::size(kNames) ? kNames[index]
                                                           : fmt::format("kind_{}", kind);
}

nlohmann::json counter_facts(const Run& run, const RowSummary& summary) {
  nlohmann::json facts;
  facts["asked"] = nlohmann::json::array();
  facts["devices"] = nlohmann::json::array();
  for (const CounterSetup& setup : run.counter_setups) {
    if (!setup.why_not.empty()) {
      facts["why_not"] = setup.why_not;
      continue;
    }
    const bool is_wish = setup.body.device == kNoDevice;
    nlohmann::json names = nlohmann::json::array();
    const uint32_t mask = is_wish ? counters_of(setup.body.groups) : setup.body.counters;
    for (size_t i = 0; i < kCounters; ++i) {
      if ((mask >> i & 1) != 0) names.push_back(kCounterNames[i]);
    }
    if (is_wish) {
      facts["asked"] = names;
    } else {
      facts["devices"].push_back(
          {{"device", setup.body.device}, {"chip", setup.chip}, {"counters", names}});
    }
  }
  facts["graph_launches"] = summary.counters.graphs;
  facts["graph_launches_as_a_whole"] = summary.counters.whole_graphs;
  facts["not_measured_communication"] = run.losses.counter_skipped;
  return facts;
}

void write_meta(const Run& run, const RowSummary& summary, const RowTarget& target) {
  nlohmann::json facts;
  facts["cupti_version"] = run.cupti_version;
  facts["kernel_records"] = {run.oldest_kernel, run.newest_kernel};
  facts["parameters"] = {{"launches", summary.operands.launches},
                         {"matched", summary.operands.matched}};
  std::map<uint32_t, std::pair<int64_t, int64_t>> waits;
  for (const Wait& wait : run.waits) {
    ++waits[wait.type].first;
    waits[wait.type].second += wait.end_ns - wait.start_ns;
  }
  for (const auto& [type, total] : waits) {
    facts["waits"][wait_name(type)] = {{"count", total.first}, {"ns", total.second}};
  }
  for (const auto& [kind, count] : run.external_ids) {
    facts["external_ids"][std::to_string(kind)] = count;
  }
  if (run.pools.created > 0) {
    facts["memory_pools"] = {{"created", run.pools.created},
                             {"largest_bytes", run.pools.largest_bytes}};
  }
  nlohmann::json& overhead = facts["overhead"] = nlohmann::json::object();
  for (const auto& [kind, total] : run.overheads) {
    overhead[overhead_name(kind)] = {{"count", total.first}, {"ns", total.second}};
  }
  if (!run.counter_setups.empty()) {
    facts["counters"] = counter_facts(run, summary);
    const uint32_t groups = run.counter_setups.front().body.groups;
    target.db.set_meta("counters", groups == kDramCounters ? "dram"
                                   : groups == kL2Counters ? "l2"
                                                           : "dram,l2");
  }
  nlohmann::json& states = facts["degraded"] = nlohmann::json::array();
  for (const auto& [state, reason] : run.states) {
    if (state == State::degraded) states.push_back(reason);
  }
  facts["notes"] = find_out(run).notes;
  facts["capture_ranges"] = run.recorded.size();
  target.db.set_meta(fmt::format("cuda_process_{}", target.process.value),
                     facts.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

RowSummary write_rows(Run& run, const RowTarget& target) {
  const CounterSummary counters = add_counter_activities(run);
  const JoinSummary joined = join(run);
  name_counter_activities(run);
  RowSummary summary = OpWriter(run, target).write();
  summary.join = joined;
  summary.counters = counters;
  write_losses(run, summary, target);
  // A process that never used CUDA leaves no trace of it.
  if (run.cupti_version != 0 || !run.states.empty() || !run.counter_setups.empty()) {
    write_meta(run, summary, target);
  }
  return summary;
}

}  // namespace preserve::cuda
