// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/import.h"
#include "common/text.h"

#include <algorithm>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "profiler/gpu/phases.h"
#include "profiler/import/access_rows.h"
#include "profiler/import/align.h"
#include "profiler/import/inspected_processes.h"
#include "profiler/import/json_reader.h"
#include "profiler/import/kineto/file.h"
#include "profiler/import/nsys/file.h"
#include "profiler/import/rank_assignment.h"

namespace preserve::import {
namespace {

constexpr size_t kHeadBytes = 4096;  // enough to tell the formats apart

enum class Format { kineto, nsys, inspector };

// The first bytes of a file, decompressed; at least one.
std::string head_of(const std::filesystem::path& path) {
  const auto source = open_bytes(path);
  std::string head(kHeadBytes, '\0');
  size_t length = 0;
  while (length < head.size()) {
    const size_t got = source->read(head.data() + length, head.size() - length);
    if (got == 0) break;
    length += got;
  }
  head.resize(length);
  if (head.empty()) {
    const std::string_view damage = source->damage();
    throw input_error("{}: {}", path.string(), damage.empty() ? "is empty" : damage);
  }
  return head;
}

Format format_of(const std::filesystem::path& path) {
  const std::string head = head_of(path);
  if (head.starts_with("SQLite format 3")) return Format::nsys;
  const size_t text = head.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  const size_t first = head.find_first_not_of(" \t\r\n", text);
  if (first != std::string::npos && (head[first] == '{' || head[first] == '[')) {
    return looks_like_inspector(head) ? Format::inspector : Format::kineto;
  }
  throw input_error(
      "{}: is neither trace JSON (PyTorch profiler), nor an Nsight Systems SQLite export, "
      "nor an NCCL inspector log; of a .nsys-rep make one with "
      "'nsys export --type sqlite FILE'",
      path.string());
}

// A process name, without folders and arguments: those may name people and places.
std::string command_only(std::string_view command) {
  command = command.substr(0, command.find(' '));
  if (const size_t slash = command.find_last_of('/'); slash != std::string_view::npos) {
    command.remove_prefix(slash + 1);
  }
  return printable(command, 80);
}

class Importer {
 public:
  Importer(const ImportOptions& options, TraceDb& db) : options_(options), db_(db) {
    for (const auto& path : options.kernel_rules) rules_.add_file(path);
  }

  ImportSummary run();

 private:
  void read_kineto_file(const std::filesystem::path& path);
  void read_nsys_file(const std::filesystem::path& path);
  void add(std::vector<ImportedProcess> processes);
  void add_captures(ProcessBuilder& builder);
  void add_operands();
  void check_ranks();
  void use_inspector_logs();
  void align();

  const ImportOptions& options_;
  TraceDb& db_;
  StepNames step_names_{options_.steps};
  StepNames* early_steps_ = nullptr;  // of those that are found as files are read
  gpu::KernelRules rules_;
  std::vector<ImportedProcess> processes_;
  std::optional<int64_t> world_size_;
  std::vector<std::pair<std::string, InspectorLog>> logs_;
  GraphCaptures captures_{options_.limits.captured_calls};
  ImportSummary summary_;
};

void Importer::add(std::vector<ImportedProcess> processes) {
  if (processes.size() > 1) {
    summary_.warnings.push_back(
        fmt::format("{}: a process ran kernels on {} GPUs: each GPU is a process of the trace",
                    processes.front().source_file, processes.size()));
  }
  for (ImportedProcess& process : processes) {
    if (process.world_size) {
      world_size_ = std::max(world_size_.value_or(0), *process.world_size);
    }
    summary_.activities += process.activities;
    summary_.kernels += process.kernels;
    processes_.push_back(std::move(process));
  }
}

// "20 of category 'COLL', 3 of no category"
std::string list_of(const std::map<std::string, int64_t>& unknown) {
  constexpr size_t kShown = 8;
  std::string list;
  size_t shown = 0;
  for (const auto& [what, count] : unknown) {
    if (shown == kShown) return list + ", ...";
    list += fmt::format("{}{} {}", shown++ == 0 ? "" : ", ", count, what);
  }
  return list;
}

void Importer::read_kineto_file(const std::filesystem::path& path) {
  const std::string file = path.string();
  KinetoFile result =
      read_kineto([&] { return open_bytes(path); }, file, options_.partial, db_, rules_);
  if (!result.damage.empty())
    summary_.warnings.push_back(result.damage + "; what came before was imported");
  const bool captures = std::ranges::any_of(result.processes, &ProcessBuilder::captures_graphs);
  if (result.activities == 0 && captures && options_.files.size() == 1) {
    throw input_error(
        "{}: graphs are captured in it, and nothing runs: give the trace of their replays with it",
        file);
  }
  if (result.activities == 0 && !captures && !options_.partial) {
    throw input_error(
        "{}: {} in its {} events, of them {} of the host; it looks like a trace of {}{}; record "
        "with GPU activities, or import its ranges with --partial",
        file, result.unknown.empty() ? "holds no GPU activity" : "no GPU activity is recognised",
        result.events, result.host_events, result.writer,
        result.unknown.empty() ? "" : "; not understood: " + list_of(result.unknown));
  }
  if (result.launching_processes > 1) {
    summary_.warnings.push_back(fmt::format(
        "{}: {} processes launched what runs in it, and nothing says which GPU work is whose: the "
        "ranks in it are one process here; give each rank's own file",
        file, result.launching_processes));
  }
  if (!result.unknown.empty()) {
    summary_.warnings.push_back(
        fmt::format("{}: events that were not understood: {}", file, list_of(result.unknown)));
  }
  if (result.strings_cut != 0) {
    summary_.warnings.push_back(fmt::format("{}: {} cut: longer than {} KiB", file,
                                            count_of(result.strings_cut, "text"),
                                            JsonReader::kDefaultWindow >> 10));
  }
  if (result.devices_left_out != 0) {
    summary_.warnings.push_back(
        fmt::format("{}: describes too many GPUs: {} left out", file, result.devices_left_out));
  }
  if (result.frames_left_out != 0) {
    db_.set_meta("python_frames_left_out", std::to_string(result.frames_left_out));
  }
  const bool mostly = std::ranges::any_of(result.processes, &ProcessBuilder::mostly_captures);
  const bool apart = mostly && !result.replays && options_.files.size() > 1;
  if (result.processes.size() > 1) {
    summary_.notes.push_back(fmt::format("{}: holds {} ranks", file, result.processes.size()));
  }
  for (const auto& builder : result.processes) {
    if (apart) {
      add_captures(*builder);
      continue;
    }
    builder->row.command = command_only(builder->row.command);
    add(builder->finish(result.base_ns, early_steps_));
    if (captures) captures_.add(builder->take_captures());
  }
}

// Of a file that holds the captures of graphs and none of their replays: what ran in it on the side
// is no part of the run.
void Importer::add_captures(ProcessBuilder& builder) {
  if (builder.activities() != 0) {
    summary_.warnings.push_back(fmt::format(
        "{}: is taken for the capture of graphs: {} of its own left out", builder.source_file,
        count_of(static_cast<int64_t>(builder.activities()), "operator")));
  }
  CapturedGraphs graphs = builder.take_captures();
  if (!graphs.rank) {
    graphs.rank = rank_in_file_name(std::filesystem::path(graphs.file).filename().string()).rank;
  }
  summary_.notes.push_back(
      fmt::format("{}: {} captured", graphs.file, count_of(std::ssize(graphs.graphs), "graph")));
  captures_.add(std::move(graphs));
}

void Importer::read_nsys_file(const std::filesystem::path& path) {
  NsysFile file = read_nsys(path, options_.partial, db_, rules_);
  for (const std::string& note : file.notes) {
    summary_.warnings.push_back(fmt::format("{}: {}", path.string(), note));
  }
  summary_.notes.push_back(fmt::format("{}: Nsight Systems export, schema {}", path.string(),
                                       file.version.empty() ? "unknown" : file.version));
  for (auto& builder : file.processes) {
    builder->row.host = "unknown";
    builder->source_file = path.string();
    builder->row.command = command_only(builder->row.command);
    if (builder->row.start_ns > builder->row.end_ns)
      builder->row.start_ns = builder->row.end_ns = 0;
    add(builder->finish(0, early_steps_));
  }
}

void Importer::check_ranks() {
  std::map<int64_t, const ImportedProcess*> by_rank;
  for (const ImportedProcess& process : processes_) {
    if (!process.rank) {
      if (processes_.size() > 1 && options_.files.size() > 1 && !options_.partial) {
        throw input_error(
            "{}: has no rank, neither inside nor in its name, and {} processes are "
            "imported together; name the files ...rank0..., ...rank1..., or use --partial",
            process.source_file, processes_.size());
      }
      continue;
    }
    const auto [other, fresh] = by_rank.emplace(*process.rank, &process);
    if (!fresh) {
      throw input_error(
          "{} and {}: both are rank {}; files imported together are the ranks of one run",
          other->second->source_file, process.source_file, *process.rank);
    }
  }
  if (!world_size_ || by_rank.empty()) return;
  std::vector<int64_t> missing;
  for (int64_t rank = 0; rank < *world_size_ && missing.size() < 1000; ++rank) {
    if (by_rank.count(rank) == 0) missing.push_back(rank);
  }
  if (missing.empty()) return;
  const size_t shown = std::min<size_t>(missing.size(), 8);
  const std::string list = fmt::format(
      "{}{}",
      fmt::join(missing.begin(), missing.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
      shown < missing.size() ? ", ..." : "");
  // One rank alone is what people usually have, and enough for a plan. Some of several is a
  // mistake.
  const bool one_file = std::ranges::all_of(processes_, [&](const ImportedProcess& process) {
    return process.source_file == processes_.front().source_file;
  });
  if (!one_file && !options_.partial) {
    throw input_error(
        "the run has {} ranks but rank {} is missing; give all files, or use --partial",
        *world_size_, list);
  }
  db_.add_loss({}, "import", "rank_missing",
               static_cast<int64_t>(*world_size_) - static_cast<int64_t>(by_rank.size()));
  summary_.warnings.push_back(fmt::format("rank {} of {} is missing", list, *world_size_));
}

void Importer::use_inspector_logs() {
  const std::vector<InspectorUse> uses =
      logs_.empty() ? std::vector<InspectorUse>{}
                    : apply_inspectors(db_, inspected_by(db_, processes_, world_size_, logs_),
                                       options_.limits);
  for (size_t i = 0; i < uses.size(); ++i) {
    const auto& [file, log] = logs_[i];
    const auto [used, too_long] = uses[i];
    db_.add_loss({}, "nccl_inspector", "received", log.received);
    db_.add_loss({}, "nccl_inspector", "written", used);
    if (log.bad_lines != 0) db_.add_loss({}, "nccl_inspector", "bad_line", log.bad_lines);
    if (log.other_lines != 0) db_.add_loss({}, "nccl_inspector", "no_collective", log.other_lines);
    if (log.written != used)
      db_.add_loss({}, "nccl_inspector", "outside_trace", log.written - used);
    if (too_long != 0) {
      summary_.warnings.push_back(file + ": too long to be compared with the trace");
    }
    if (log.written == 0) {
      summary_.warnings.push_back(fmt::format("{}: has no collective in its {} lines", file,
                                              log.other_lines + log.bad_lines));
    } else if (used == 0 && too_long == 0) {
      std::set<int64_t> sizes;
      for (const auto& each : log.communicators) sizes.insert(each.ranks);
      summary_.warnings.push_back(fmt::format(
          "{}: none of its {} collectives could be matched with the trace's; its communicators "
          "have {} ranks, and a rank in a communicator says which rank of the run it is only when "
          "they have all of them",
          file, log.written, fmt::join(sizes, ", ")));
    } else if (used != 0) {
      summary_.notes.push_back(fmt::format("{}: {} collectives matched", file, used));
    }
  }
}

void Importer::align() {
  if (processes_.size() < 2) return;
  // Processes of one file share its clock already.
  std::vector<ProcessId> ids{processes_.front().id};
  std::vector<ImportedProcess*> others;
  for (ImportedProcess& process : processes_) {
    if (process.source_file == processes_.front().source_file) continue;
    ids.push_back(process.id);
    others.push_back(&process);
  }
  const std::vector<Alignment> alignments = align_clocks(db_, ids);
  for (size_t i = 0; i < alignments.size(); ++i) {
    const Alignment& alignment = alignments[i];
    ImportedProcess& process = *others[i];
    const std::string who = process.rank ? fmt::format("rank {}", *process.rank)
                                         : fmt::format("process {}", process.id.value);
    if (alignment.matched < kLeastMatched) {
      summary_.warnings.push_back(
          fmt::format("{}: clock not aligned, only {} collectives are known to be common", who,
                      alignment.matched));
      continue;
    }
    summary_.notes.push_back(fmt::format(
        "{}: clock shifted by {}, ends of {} collectives agree within {} (median), {} (worst)", who,
        format_duration(alignment.shift_ns), alignment.matched,
        format_duration(alignment.residual_median_ns), format_duration(alignment.residual_max_ns)));
    db_.set_meta(fmt::format("clock_residual_ns_process_{}", process.id.value),
                 std::to_string(alignment.residual_median_ns));
    // Uses carry times of their own; shift them with the rows.
    process.shift_ns = alignment.shift_ns;
  }
}

void Importer::add_operands() {
  AccessSummary accesses;
  for (ImportedProcess& process : processes_) {
    add_access_rows(db_, process, captures_, accesses);
  }
  summary_.notes.push_back(
      fmt::format("operands: {} kernels by recorded shapes, {} inferred from duration and "
                  "bandwidth, {} unknown",
                  accesses.from_shapes, accesses.inferred, accesses.unknown));
  if (captures_.empty()) return;
  summary_.notes.push_back(fmt::format(
      "captures: {} of {} that ran have their operands from one", accesses.joined,
      count_of(accesses.joined + accesses.ambiguous + accesses.apart + accesses.too_many,
               "graph")));
  if (accesses.ambiguous > 0) {
    summary_.warnings.push_back(fmt::format(
        "captures: several fit to {} that ran, and nothing says for which batch they ran: give the "
        "capture of one size",
        count_of(accesses.ambiguous, "graph")));
  }
  if (accesses.apart > 0) {
    summary_.warnings.push_back(fmt::format("captures: none has the kernels of {} that ran",
                                            count_of(accesses.apart, "graph")));
  }
  if (accesses.too_many > 0) {
    summary_.warnings.push_back(fmt::format(
        "captures: too much to compare for {} that ran: give the captures of fewer sizes",
        count_of(accesses.too_many, "graph")));
  }
}

ImportSummary Importer::run() {
  std::set<std::filesystem::path> seen;
  for (const auto& path : options_.files) {
    std::error_code error;
    if (!seen.insert(std::filesystem::weakly_canonical(path, error)).second) {
      throw input_error("{}: is given twice", path.string());
    }
  }
  std::vector<Format> formats;
  for (const auto& path : options_.files) formats.push_back(format_of(path));
  // What a log says of collectives may tell steps apart: they are found once it was used.
  const bool logs = std::ranges::count(formats, Format::inspector) != 0;
  early_steps_ = logs ? nullptr : &step_names_;
  for (size_t i = 0; i < formats.size(); ++i) {
    const auto& path = options_.files[i];
    switch (formats[i]) {
      case Format::kineto:
        read_kineto_file(path);
        break;
      case Format::nsys:
        read_nsys_file(path);
        break;
      case Format::inspector: {
        const auto source = open_bytes(path);
        logs_.emplace_back(path.string(), read_inspector(*source, path.string(), options_.partial));
      }
    }
  }
  if (processes_.empty()) {
    throw input_error(
        "{}: holds no operators; give a PyTorch or Nsight Systems trace together with it",
        options_.files.front().string());
  }
  db_.set_meta("clock", "of the imported trace");
  db_.set_meta("producer", "import");
  for (std::string& guess : name_ranks(db_, processes_)) {
    summary_.warnings.push_back(std::move(guess));
  }
  check_ranks();
  use_inspector_logs();
  align();
  const StepSummary steps =
      early_steps_ == nullptr ? mark_steps(db_, options_.steps) : finish_steps(db_);
  summary_.steps = steps.all();
  const gpu::PhaseSummary phases = gpu::tell_phases(db_);
  summary_.notes.push_back(fmt::format(
      "steps: {} annotated, {} counted, {} guessed; {} decode, {} prefill, {} of unknown phase",
      steps.annotated, steps.counted, steps.detected, phases.decode, phases.prefill,
      phases.unknown));
  add_operands();
  summary_.processes = static_cast<int64_t>(processes_.size());
  return std::move(summary_);
}

}  // namespace

ImportSummary import_traces(const ImportOptions& options, TraceDb& db) {
  return Importer(options, db).run();
}

int run_import(const ImportOptions& options, const std::filesystem::path& output, bool force,
               Console& console) {
  for (const auto& inputs : {options.files, options.kernel_rules}) {
    refuse_input_as_output(output, {inputs.begin(), inputs.end()});
  }
  require_file(output.string(), "a trace");
  OutputFile out(output, force);
  TraceDb db = TraceDb::create(out.temporary_path());
  const ImportSummary summary = import_traces(options, db);
  Query losses = db.query("SELECT source, kind, SUM(count) FROM loss_nonzero GROUP BY 1, 2");
  while (losses.next()) {
    console.warn(
        fmt::format("{} records: {} {}", losses.text(0), losses.integer(2), losses.text(1)));
  }
  const std::string next = next_command(db, output.string());
  db.finish();
  if (options.complete) options.complete(out.temporary_path());
  out.commit();
  for (const std::string& warning : summary.warnings) console.warn(warning);
  for (const std::string& note : summary.notes) console.info(note);
  console.info(fmt::format("{}: {} processes, {} GPU activities ({} kernels), {} steps",
                           output.string(), summary.processes, summary.activities, summary.kernels,
                           summary.steps));
  report_quality(TraceDb::open(out.path()), console);
  console.next(next);
  return kExitDone;
}

}  // namespace preserve::import
