// SPDX-License-Identifier: Apache-2.0
#include "db/step/folded_step.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <unordered_map>

#include "common/stats.h"
#include "common/text.h"
#include "db/step/repetitions.h"

namespace preserve {
namespace {

struct Source {
  ProcessId process;
  int64_t rank = 0, world_size = 1;
};

template <typename... Args>
NoStepError no_step(fmt::format_string<Args...> format, Args&&... args) {
  return NoStepError(fmt::format(format, std::forward<Args>(args)...));
}

Source choose_process(const TraceDb& db, std::optional<int64_t> rank) {
  std::vector<Source> sources;
  std::set<int64_t> ranks, numbered;
  Query rows = db.query(
      "SELECT id, rank, world_size FROM process "
      "WHERE id IN (SELECT process_id FROM step) ORDER BY rank IS NULL, rank, id");
  while (rows.next()) {
    sources.push_back({{rows.integer(0)},
                       rows.optional_integer(1).value_or(0),
                       rows.optional_integer(2).value_or(1)});
    const Source& source = sources.back();
    if (source.rank < 0 || source.world_size < 1) {
      throw input_error("{}: is damaged: rank {} of {}", db.file(), source.rank, source.world_size);
    }
    // Processes without a rank may be many; a rank is one process.
    if (!rows.is_null(1) && !numbered.insert(source.rank).second) {
      throw no_step("{}: two processes with steps are both rank {}: these are several runs",
                    db.file(), source.rank);
    }
    ranks.insert(source.rank);
  }
  if (sources.empty()) {
    throw no_step(
        "{}: no step was found: no range named decode_step (or as in --step-range) and no "
        "repeating operator sequence; annotate the decode step with an NVTX range, or record more "
        "steps",
        db.file());
  }
  if (!rank) return sources.front();
  for (const Source& source : sources) {
    if (source.rank == *rank) return source;
  }
  throw no_step("{}: has no steps of rank {}; ranks with steps: {}", db.file(), *rank,
                fmt::join(ranks, ", "));
}

// Medians of starts and of durations are taken one by one, so on a noisy machine a folded operator
// can seem to start before its predecessor has ended. It is moved to that end unless the two really
// overlapped in most repetitions, as kernels on a GPU stream may. `ops` as RawStep::ops.
void undo_false_overlaps(const std::vector<RawStep>& steps, std::vector<StepOp>& ops) {
  std::vector<double> gaps(steps.size());
  for (size_t i = 1; i < ops.size(); ++i) {
    if (steps.front().ops[i].stream != steps.front().ops[i - 1].stream) continue;
    const double previous_end_ns = ops[i - 1].start_ns + ops[i - 1].dur_ns;
    if (ops[i].start_ns >= previous_end_ns) continue;
    for (size_t s = 0; s < steps.size(); ++s) {
      gaps[s] = static_cast<double>(steps[s].ops[i].start_ns - steps[s].ops[i - 1].end_ns);
    }
    if (median(gaps) >= 0) ops[i].start_ns = previous_end_ns;
  }
}

std::set<int64_t> asynchronous_of(const TraceDb& db, const std::vector<int64_t>& streams) {
  std::set<int64_t> asynchronous;
  for (const int64_t stream : streams) {
    if (db.query_integer("SELECT 1 FROM stream WHERE id = ? AND kind = 'async'", {stream})) {
      asynchronous.insert(stream);
    }
  }
  return asynchronous;
}

// What recurs in every repetition on one stream: medians of its operators and of the gaps before,
// between and after them. `steps` have one sequence of operators.
double repeating_ns(const std::vector<RawStep>& steps, int64_t stream) {
  std::vector<double> parts(steps.size());
  std::vector<int64_t> covered_to_ns(steps.size());
  const auto median_of = [&](const auto& part_of) {
    for (size_t s = 0; s < steps.size(); ++s) {
      parts[s] = static_cast<double>(std::max<int64_t>(0, part_of(s)));
    }
    return median(parts);
  };
  for (size_t s = 0; s < steps.size(); ++s) covered_to_ns[s] = steps[s].start_ns;
  double sum_ns = 0;
  for (size_t i = 0; i < steps.front().ops.size(); ++i) {
    if (steps.front().ops[i].stream != stream) continue;
    sum_ns += median_of([&](size_t s) { return steps[s].ops[i].start_ns - covered_to_ns[s]; });
    sum_ns += median_of([&](size_t s) {
      const RawOp& op = steps[s].ops[i];
      return op.end_ns - std::max(op.start_ns, covered_to_ns[s]);
    });
    for (size_t s = 0; s < steps.size(); ++s) {
      covered_to_ns[s] = std::max(covered_to_ns[s], steps[s].ops[i].end_ns);
    }
  }
  return sum_ns + median_of([&](size_t s) { return steps[s].end_ns - covered_to_ns[s]; });
}

// Operators in order of median start. Returns, for each position of RawStep::ops, its ordinal.
std::vector<int32_t> fold_operators(const TraceDb& db, const std::vector<RawStep>& steps,
                                    FoldedStep& folded) {
  const size_t count = steps.front().ops.size();
  std::vector<StepOp> ops(count);
  std::vector<double> starts(steps.size()), durations(steps.size());
  std::map<int64_t, int64_t> collectives_of_stream;
  for (size_t i = 0; i < count; ++i) {
    for (size_t s = 0; s < steps.size(); ++s) {
      const RawOp& raw = steps[s].ops[i];
      starts[s] = static_cast<double>(raw.start_ns - steps[s].start_ns);
      durations[s] = static_cast<double>(raw.end_ns - raw.start_ns);
    }
    ops[i].kind = steps.front().ops[i].kind;
    ops[i].start_ns = median(starts);
    ops[i].dur_ns = median(durations);
    ops[i].mad_ns = median_abs_deviation(durations);
    collectives_of_stream[steps.front().ops[i].stream] += ops[i].kind == OpKind::collective ? 1 : 0;
  }
  undo_false_overlaps(steps, ops);
  for (const auto& [stream, ignored] : collectives_of_stream) folded.streams.push_back(stream);
  std::ranges::stable_sort(folded.streams, [&](int64_t a, int64_t b) {
    return collectives_of_stream[a] > collectives_of_stream[b];
  });
  const std::set<int64_t> asynchronous = asynchronous_of(db, folded.streams);
  std::map<int64_t, int32_t> index_of_stream;
  for (const int64_t stream : folded.streams) {
    index_of_stream.emplace(stream, static_cast<int32_t>(index_of_stream.size()));
  }
  std::unordered_map<int64_t, std::string> names;
  Query rows = db.query(
      "SELECT id, value FROM string WHERE id IN (SELECT name_id FROM op WHERE step_id = ?)",
      {steps.front().id});
  while (rows.next()) names[rows.integer(0)] = std::string(rows.text(1));
  for (size_t i = 0; i < count; ++i) {
    const RawOp& raw = steps.front().ops[i];
    const auto name = names.find(raw.name_id);
    ops[i].name = name == names.end() ? fmt::format("string {}", raw.name_id) : name->second;
    ops[i].stream = index_of_stream.at(raw.stream);
  }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order,
                           [&](size_t a, size_t b) { return ops[a].start_ns < ops[b].start_ns; });
  std::vector<int32_t> ordinal_of(count);
  folded.ops.reserve(count);
  double explained_to_ns = 0;
  for (size_t position = 0; position < count; ++position) {
    ordinal_of[order[position]] = static_cast<int32_t>(position);
    folded.ops.push_back(std::move(ops[order[position]]));
    folded.ops.back().ordinal = static_cast<int32_t>(position);
    // The step holds its operators, also after they were moved apart. An asynchronous one may end
    // steps later, when somebody waits for it.
    const StepOp& op = folded.ops.back();
    if (asynchronous.count(folded.streams[static_cast<size_t>(op.stream)]) != 0) continue;
    const double end_ns = op.start_ns + op.dur_ns;
    folded.wall_ns = std::max(folded.wall_ns, end_ns);
    folded.explained_ns += std::max(0.0, end_ns - std::max(op.start_ns, explained_to_ns));
    explained_to_ns = std::max(explained_to_ns, end_ns);
  }
  return ordinal_of;
}

// By row of table op, ascending.
FoldedRows rows_of(const std::vector<RawStep>& steps, const std::vector<int32_t>& ordinal_of) {
  FoldedRows rows;
  rows.reserve(steps.size() * ordinal_of.size());
  for (const RawStep& step : steps) {
    for (size_t i = 0; i < step.ops.size(); ++i) rows.emplace_back(step.ops[i].id, ordinal_of[i]);
  }
  std::ranges::sort(rows);
  return rows;
}

// Of a row of table op; nothing when it is of a step that was left out.
std::optional<int32_t> ordinal_in(const FoldedRows& rows, int64_t op) {
  const auto found = std::ranges::lower_bound(rows, std::pair(op, int32_t{0}));
  if (found == rows.end() || found->first != op) return std::nullopt;
  return found->second;
}

struct Operand {
  std::vector<double> offsets, bytes;
  StepAccess access;
};

// Tensors that the accesses of these operators name, by row of table tensor.
std::unordered_map<int64_t, StepTensor> tensors_between(const TraceDb& db, int64_t first_op,
                                                        int64_t last_op) {
  std::unordered_map<int64_t, StepTensor> tensors;
  Query rows = db.query(
      "SELECT tensor.id, string.value, role, bytes FROM tensor "
      "JOIN string ON string.id = tensor.name_id WHERE tensor.id IN "
      "(SELECT tensor_id FROM access WHERE op_id BETWEEN ? AND ?)",
      {first_op, last_op});
  while (rows.next()) {
    tensors[rows.integer(0)] = {std::string(rows.text(1)), rows.tensor_role(2), rows.size(3)};
  }
  return tensors;
}

// Without a join of all these rows: that would look up four others for each.
void fold_accesses(const TraceDb& db, const FoldedRows& folded_rows, FoldedStep& folded) {
  const int64_t first_op = folded_rows.front().first, last_op = folded_rows.back().first;
  const auto tensors = tensors_between(db, first_op, last_op);
  std::unordered_map<std::string_view, int32_t> index_of_name;
  std::map<std::pair<int32_t, std::pair<int32_t, AccessMode>>, Operand> operands;
  Query rows = db.query(
      "SELECT op_id, tensor_id, offset_bytes, bytes, mode, confidence, source FROM access "
      "WHERE op_id BETWEEN ? AND ? ORDER BY op_id, operand",
      {first_op, last_op});
  while (rows.next()) {
    const auto ordinal = ordinal_in(folded_rows, rows.integer(0));
    if (!ordinal) continue;
    const auto named = tensors.find(rows.integer(1));
    if (named == tensors.end()) continue;
    const auto [entry, fresh] =
        index_of_name.try_emplace(named->second.name, static_cast<int32_t>(folded.tensors.size()));
    if (fresh) folded.tensors.push_back(named->second);
    StepTensor& tensor = folded.tensors[static_cast<size_t>(entry->second)];
    tensor.bytes = std::max(tensor.bytes, named->second.bytes);
    const AccessMode mode = rows.access_mode(4);
    tensor.written = tensor.written || mode == AccessMode::write;
    Operand& operand = operands[{*ordinal, {entry->second, mode}}];
    // Some repetitions may have been looked at more closely than others.
    const double confidence = rows.real(5);
    if (confidence < operand.access.confidence && !operand.bytes.empty()) continue;
    if (confidence > operand.access.confidence) operand = {};
    operand.offsets.push_back(static_cast<double>(rows.size(2)));
    operand.bytes.push_back(static_cast<double>(rows.size(3)));
    operand.access.tensor = entry->second;
    operand.access.mode = mode;
    operand.access.confidence = confidence;
    operand.access.source = std::string(rows.text(6));
  }
  for (auto& [key, operand] : operands) {
    operand.access.offset_bytes = static_cast<int64_t>(median(operand.offsets));
    operand.access.bytes = static_cast<int64_t>(median(operand.bytes));
    folded.ops[static_cast<size_t>(key.first)].accesses.push_back(std::move(operand.access));
  }
}

void fold_floors(const TraceDb& db, const FoldedRows& folded_rows, FoldedStep& folded) {
  std::map<int32_t, std::vector<double>> floors;
  Query rows = db.query("SELECT op_id, value FROM counter WHERE metric = 'floor_ns'");
  while (rows.next()) {
    const auto ordinal = ordinal_in(folded_rows, rows.integer(0));
    if (ordinal) floors[*ordinal].push_back(rows.real(1));
  }
  for (const auto& [ordinal, values] : floors) {
    folded.ops[static_cast<size_t>(ordinal)].floor_ns = median(values);
  }
}

void fold_gemms(const TraceDb& db, const FoldedRows& folded_rows, FoldedStep& folded) {
  std::map<int32_t, std::vector<StepGemm>> products;
  Query rows = db.query("SELECT op_id, m, n, k, dtype FROM gemm WHERE op_id BETWEEN ? AND ?",
                        {folded_rows.front().first, folded_rows.back().first});
  while (rows.next()) {
    const auto ordinal = ordinal_in(folded_rows, rows.integer(0));
    if (!ordinal) continue;
    const StepGemm product{rows.integer(1), rows.integer(2), rows.integer(3),
                           std::string(rows.text(4))};
    if (product.m <= 0 || product.n <= 0 || product.k <= 0) {
      throw input_error("{}: is damaged: a matrix product of {} x {} x {}", db.file(), product.m,
                        product.n, product.k);
    }
    products[*ordinal].push_back(product);
  }
  for (auto& [ordinal, repeated] : products) {
    const bool same = std::ranges::all_of(
        repeated, [&first = repeated.front()](const StepGemm& each) { return each == first; });
    if (same && static_cast<int64_t>(repeated.size()) == folded.steps_used) {
      folded.ops[static_cast<size_t>(ordinal)].gemm = repeated.front();
    }
  }
}

// Counter blocks, as the converter wrote it: a number of thread blocks. Nothing for any other
// number.
std::optional<int64_t> blocks_of(const Query& rows, int column) {
  constexpr double kMostBlocks = 1 << 30;
  const double value = rows.real(column);
  if (!(value >= 1 && value <= kMostBlocks)) return std::nullopt;
  return static_cast<int64_t>(value);
}

// Of the first repetition.
void fold_collectives(const TraceDb& db, const RawStep& step, const FoldedRows& folded_rows,
                      FoldedStep& folded) {
  Query rows = db.query(
      "SELECT op.id, function, bytes, ranks, communicator, blocking, dtype, counter.value "
      "FROM op JOIN collective ON collective.op_id = op.id "
      "LEFT JOIN counter ON counter.op_id = op.id AND metric = 'blocks' "
      "WHERE op.step_id = ? AND op.kind IN ('collective', 'p2p')",
      {step.id});
  while (rows.next()) {
    const auto ordinal = ordinal_in(folded_rows, rows.integer(0));
    if (!ordinal) continue;
    StepOp& op = folded.ops[static_cast<size_t>(*ordinal)];
    if (!rows.is_null(2)) rows.size(2);  // a negative size is damage
    op.collective = StepCollective{.function = std::string(rows.text(1)),
                                   .bytes = rows.optional_integer(2),
                                   .ranks = rows.optional_integer(3),
                                   .communicator = rows.optional_integer(4),
                                   .blocking = rows.integer(5) != 0,
                                   .dtype = std::string(rows.text(6)),
                                   .blocks = blocks_of(rows, 7)};
  }
}

// Fills wall time and operators of `folded` from repetitions of one sequence; as fold_operators().
std::vector<int32_t> fold_steps(const TraceDb& db, const std::vector<RawStep>& steps,
                                FoldedStep& folded) {
  constexpr double kInterrupted = 1.5;  // times the median
  std::vector<double> walls;
  walls.reserve(steps.size());
  for (const RawStep& step : steps) {
    walls.push_back(static_cast<double>(step.end_ns - step.start_ns));
  }
  folded.wall_ns = median(walls);
  folded.wall_mad_ns = median_abs_deviation(walls);
  folded.interrupted = std::ranges::count_if(
      walls, [&](double wall_ns) { return wall_ns > kInterrupted * folded.wall_ns; });
  std::vector<int32_t> ordinal_of = fold_operators(db, steps, folded);
  folded.repeating_ns = repeating_ns(steps, folded.streams.front());
  return ordinal_of;
}

}  // namespace

FoldedStep fold_times(const TraceDb& db, ProcessId process, int64_t most_operators) {
  FoldedStep folded;
  folded.process = process;
  const std::vector<RawStep> steps = alike_steps(db, most_operators, StepPhase::decode, folded);
  if (!steps.empty()) fold_steps(db, steps, folded);
  return folded;
}

std::vector<int64_t> ranks_with_steps(const TraceDb& db) {
  std::vector<int64_t> ranks;
  Query rows = db.query(
      "SELECT DISTINCT COALESCE(rank, 0) FROM process WHERE id IN (SELECT process_id FROM step) "
      "ORDER BY 1");
  while (rows.next()) ranks.push_back(rows.integer(0));
  return ranks;
}

std::vector<StepPhase> recorded_phases(const TraceDb& db, std::optional<int64_t> rank) {
  const auto any = [&](const char* condition) {
    return db
        .query_integer(fmt::format("SELECT 1 FROM step JOIN process ON process.id = process_id "
                                   "WHERE phase {} AND (?1 IS NULL OR COALESCE(rank, 0) = ?1) "
                                   "LIMIT 1",
                                   condition),
                       {rank ? SqlValue(*rank) : SqlValue(nullptr)})
        .has_value();
  };
  std::vector<StepPhase> phases;
  if (any("<> 'prefill'")) phases.push_back(StepPhase::decode);
  if (any("= 'prefill'")) phases.push_back(StepPhase::prefill);
  return phases;
}

FoldedStep fold_step(const TraceDb& db, std::optional<int64_t> rank, std::optional<StepPhase> phase,
                     FoldedRows* rows) {
  if (const std::string kind = db.meta("kind"); kind == "replay" || kind == "grid") {
    throw input_error("{}: is a {}, not a recording: name the trace.db that it was made from",
                      db.file(), kind);
  }
  if (const std::string counters = db.meta("counters"); !counters.empty()) {
    throw no_step(
        "{}: recorded with --counters {}: its kernels ran one by one, so its times are not the "
        "program's. Record once more without --counters and use that; preserve-report shows what "
        "was counted here",
        db.file(), counters);
  }
  const Source source = choose_process(db, rank);
  FoldedStep folded;
  folded.trace_file = db.file();
  folded.rank = source.rank;
  folded.process = source.process;
  folded.world_size = source.world_size;
  std::vector<RawStep> steps =
      alike_steps(db, kAllOperators, phase.value_or(StepPhase::decode), folded);
  if (!phase && folded.steps_total == 0) {
    steps = alike_steps(db, kAllOperators, StepPhase::prefill, folded);
    folded.warnings.push_back(
        "only prefill steps were recorded, so the step is a prefill: its products work on many "
        "tokens and are bound by arithmetic more than by memory, and the next prompt may have "
        "another length; record the decode phase for a plan of decoding");
  }
  if (folded.steps_total == 0) {
    if (phase == StepPhase::prefill) {
      throw no_step(
          "{}: rank {} has no prefill step, only decode steps: plan these, or record the prompt "
          "too, in a range named prefill_step",
          db.file(), folded.rank);
    }
    throw no_step(
        "{}: rank {} has only prefill steps: record the decode phase, name its range with "
        "--step-range, or plan the prefill with preserve-tune --phase prefill",
        db.file(), folded.rank);
  }
  if (steps.empty()) {
    throw no_step("{}: rank {} has steps but no operator ran in them", db.file(), folded.rank);
  }
  if (folded.source == "detected") {
    folded.warnings.push_back(fmt::format(
        "the step of {} is guessed from the period of the recording: annotate it with an NVTX "
        "range "
        "decode_step, or say with preserve-profile --step-collectives how many collectives it has",
        count_of(std::ranges::count(steps.front().ops, OpKind::collective, &RawOp::kind),
                 "collective")));
  }
  const std::vector<int32_t> ordinal_of = fold_steps(db, steps, folded);
  FoldedRows folded_rows = rows_of(steps, ordinal_of);
  fold_accesses(db, folded_rows, folded);
  fold_floors(db, folded_rows, folded);
  fold_gemms(db, folded_rows, folded);
  fold_collectives(db, steps.front(), folded_rows, folded);
  if (rows != nullptr) *rows = std::move(folded_rows);
  return folded;
}

}  // namespace preserve
