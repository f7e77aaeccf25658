// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/import.h"
#include "common/text.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <set>

#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "db/next_stage.h"
#include "db/step/quality.h"
#include "profiler/gpu/phases.h"
#include "profiler/import/access_rows.h"
#include "profiler/import/align.h"
#include "profiler/import/inspector.h"
#include "profiler/import/kineto.h"
#include "profiler/import/nsys.h"

namespace preserve::import {
namespace {

constexpr size_t kHeadBytes = 4096;  // enough to tell the formats apart

enum class Format { kineto, nsys, inspector };

// The first bytes of a file, decompressed.
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
  return head;
}

Format format_of(const std::filesystem::path& path) {
  const std::string head = head_of(path);
  if (head.empty()) throw input_error("{}: is empty", path.string());
  if (head.starts_with("SQLite format 3")) return Format::nsys;
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (head[first] == '{' || head[first] == '[')) {
    return looks_like_inspector(head) ? Format::inspector : Format::kineto;
  }
  throw input_error(
      "{}: is neither trace JSON (PyTorch profiler), nor an Nsight Systems SQLite export, "
      "nor an NCCL inspector log; of a .nsys-rep make one with "
      "'nsys export --type sqlite FILE'",
      path.string());
}

// "trace_rank3.json", "worker3_step.json", "TP-3-DECODE": the number after rank, worker or tp.
std::optional<int64_t> rank_in_name(const std::filesystem::path& path) {
  const std::string name = gpu::lower_case(path.filename().string());
  for (const std::string_view word : {"rank", "worker", "tp"}) {
    size_t at = name.find(word);
    if (at == std::string::npos) continue;
    if (at > 0 && std::isalpha(static_cast<unsigned char>(name[at - 1])) != 0) continue;
    at += word.size();
    if (at < name.size() && (name[at] == '_' || name[at] == '-' || name[at] == '.')) ++at;
    const size_t digits = name.find_first_not_of("0123456789", at) - at;
    if (digits >= 1 && digits <= 6 && at < name.size() &&
        std::isdigit(static_cast<unsigned char>(name[at])) != 0) {
      return std::stoll(name.substr(at, digits));
    }
  }
  return std::nullopt;
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
  void add(ImportedProcess process, std::optional<int64_t> world_size);
  void name_ranks();
  void check_ranks();
  void use_inspector_logs();
  void align();

  const ImportOptions& options_;
  TraceDb& db_;
  gpu::KernelRules rules_;
  std::vector<ImportedProcess> processes_;
  std::optional<int64_t> world_size_;
  std::vector<std::pair<std::string, InspectorLog>> logs_;
  ImportSummary summary_;
};

void Importer::add(ImportedProcess process, std::optional<int64_t> world_size) {
  if (world_size) world_size_ = std::max(world_size_.value_or(0), *world_size);
  summary_.activities += process.activities;
  summary_.kernels += process.kernels;
  processes_.push_back(std::move(process));
}

void Importer::read_kineto_file(const std::filesystem::path& path) {
  const auto source = open_bytes(path);
  const std::string file = path.string();
  ProcessBuilder builder(db_, rules_);
  builder.row.host = "unknown";
  builder.source_file = file;
  const KinetoFile result = read_kineto(*source, file, options_.partial, builder);
  if (!result.damage.empty())
    summary_.warnings.push_back(result.damage + "; what came before was imported");
  summary_.text_bytes += result.text_bytes;
  if (builder.activities() == 0 && !options_.partial) {
    throw input_error(
        "{}: holds no GPU activity: {} events, of them {} of the host and no kernel, copy or "
        "fill; record with GPU activities, or import its ranges with --partial",
        file, result.events, result.host_events);
  }
  if (!builder.row.rank) {
    builder.row.rank = rank_in_name(path);
    if (builder.row.rank) {
      summary_.warnings.push_back(fmt::format(
          "{}: contains no rank; rank {} is taken from the file's name", file, *builder.row.rank));
    }
  }
  builder.row.command = command_only(builder.row.command);
  if (result.frames_left_out != 0) {
    db_.set_meta("python_frames_left_out", std::to_string(result.frames_left_out));
  }
  const auto world_size = builder.row.world_size;
  add(builder.finish(result.base_ns), world_size);
}

void Importer::read_nsys_file(const std::filesystem::path& path) {
  NsysFile file = read_nsys(path, options_.partial, db_, rules_);
  summary_.rows += file.rows;
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
    add(builder->finish(0), std::nullopt);
  }
}

// Several processes without ranks that communicate: the order of their GPUs stands in for the rank,
// because launchers hand out GPUs in that order. Said, never silent.
void Importer::name_ranks() {
  if (processes_.size() < 2) return;
  std::map<int64_t, ImportedProcess*> by_device;
  for (ImportedProcess& process : processes_) {
    const auto communicates = db_.query_integer(
        "SELECT 1 FROM collective JOIN op ON op.id = op_id JOIN stream ON stream.id = stream_id "
        "WHERE process_id = ? LIMIT 1",
        {process.id.value});
    const bool same_file = process.source_file == processes_.front().source_file;
    if (process.rank || !communicates || !same_file) return;
    by_device[process.first_device] = &process;
  }
  if (by_device.size() != processes_.size()) return;  // each counts its own visible devices
  int64_t rank = 0;
  for (auto& [device, process] : by_device) {
    db_.execute("UPDATE process SET rank = ?, world_size = ? WHERE id = ?",
                {rank, static_cast<int64_t>(processes_.size()), process->id.value});
    process->rank = rank++;
  }
  summary_.warnings.push_back(
      fmt::format("the {} processes have no rank: they are numbered in the order of their GPUs",
                  processes_.size()));
}

void Importer::check_ranks() {
  std::map<int64_t, const ImportedProcess*> by_rank;
  for (const ImportedProcess& process : processes_) {
    if (!process.rank) {
      if (processes_.size() > 1 && options_.files.size() > 1 && !options_.partial) {
        throw input_error(
            "{}: has no rank, neither inside nor in its name, and {} processes are "
            "imported together; name it ...rank0..., or use --partial",
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
  if (processes_.size() > 1 && !options_.partial) {
    throw input_error(
        "the run has {} ranks but rank {} is missing; give all files, or use --partial",
        *world_size_, list);
  }
  db_.add_loss({}, "import", "rank_missing",
               static_cast<int64_t>(*world_size_) - static_cast<int64_t>(by_rank.size()));
  summary_.warnings.push_back(fmt::format("rank {} of {} is missing", list, *world_size_));
}

void Importer::use_inspector_logs() {
  for (const auto& [file, log] : logs_) {
    int64_t used = 0;
    for (const ImportedProcess& process : processes_) {
      // A log without a rank to match is only certain for a single process.
      const auto own = process.rank ? log.by_rank.find(*process.rank)
                       : processes_.size() == 1 && log.by_rank.size() == 1 ? log.by_rank.begin()
                                                                           : log.by_rank.end();
      if (own != log.by_rank.end()) used += apply_inspector(db_, process.id, own->second);
    }
    db_.add_loss({}, "nccl_inspector", "received", log.received);
    db_.add_loss({}, "nccl_inspector", "written", used);
    if (log.bad_lines != 0) db_.add_loss({}, "nccl_inspector", "bad_line", log.bad_lines);
    if (log.written != used)
      db_.add_loss({}, "nccl_inspector", "outside_trace", log.written - used);
    if (used == 0) {
      summary_.warnings.push_back(fmt::format(
          "{}: none of its {} collectives could be matched with the trace's", file, log.written));
    } else {
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
    const auto duration = [](int64_t dur_ns) { return format_duration(dur_ns); };
    summary_.notes.push_back(fmt::format(
        "{}: clock shifted by {}, ends of {} collectives agree within {} (median), {} (worst)", who,
        duration(alignment.shift_ns), alignment.matched, duration(alignment.residual_median_ns),
        duration(alignment.residual_max_ns)));
    db_.set_meta(fmt::format("clock_residual_ns_process_{}", process.id.value),
                 std::to_string(alignment.residual_median_ns));
    // Uses carry times of their own; shift them with the rows.
    process.shift_ns = alignment.shift_ns;
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
  for (const auto& path : options_.files) {
    switch (format_of(path)) {
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
  name_ranks();
  check_ranks();
  use_inspector_logs();
  align();
  const StepSummary steps = mark_steps(db_, options_.steps);
  summary_.steps = steps.all();
  const gpu::PhaseSummary phases = gpu::tell_phases(db_);
  summary_.notes.push_back(fmt::format(
      "steps: {} annotated, {} counted, {} guessed; {} decode, {} prefill, {} of unknown phase",
      steps.annotated, steps.counted, steps.detected, phases.decode, phases.prefill,
      phases.unknown));
  AccessSummary accesses;
  for (ImportedProcess& process : processes_) {
    const AccessSummary own = add_access_rows(db_, process);
    accesses.from_shapes += own.from_shapes;
    accesses.inferred += own.inferred;
    accesses.unknown += own.unknown;
  }
  summary_.notes.push_back(
      fmt::format("operands: {} kernels by recorded shapes, {} inferred from duration and "
                  "bandwidth, {} unknown",
                  accesses.from_shapes, accesses.inferred, accesses.unknown));
  summary_.accesses_from_shapes = accesses.from_shapes;
  summary_.accesses_inferred = accesses.inferred;
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
  OutputFile out(output, force);
  if (out.is_stdout()) throw usage_error("a trace database cannot be written to standard output");
  TraceDb db = TraceDb::create(out.temporary_path());
  const ImportSummary summary = import_traces(options, db);
  Query losses = db.query("SELECT source, kind, SUM(count) FROM loss_nonzero GROUP BY 1, 2");
  while (losses.next()) {
    console.warn(
        fmt::format("{} records: {} {}", losses.text(0), losses.integer(2), losses.text(1)));
  }
  const std::string next = next_command(db, output.string());
  db.finish();
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
