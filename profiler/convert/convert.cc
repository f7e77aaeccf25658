// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/convert.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/error.h"
#include "common/text.h"
#include "db/step/annotations.h"
#include "profiler/clocks/hosts.h"
#include "profiler/convert/gpu_processes.h"
#include "profiler/convert/host_device.h"
#include "profiler/convert/process_converter.h"
#include "profiler/spool_name.h"

namespace preserve {
namespace {

// One rank is one process. Helpers that a rank started carry its environment, so of several that
// claim a rank the one with most communication, then most records, has it.
void settle_ranks(std::vector<std::unique_ptr<ProcessImage>>& images,
                  std::vector<std::string>& warnings) {
  struct Owner {
    ProcessImage* image = nullptr;
    std::pair<int64_t, size_t> weight{};
  };
  std::map<int64_t, Owner> owners;
  for (const auto& image : images) {
    if (!image->rank) continue;
    size_t bytes = 0;
    for (const auto& [thread, chunks] : image->threads) {
      for (const std::string_view chunk : chunks) bytes += chunk.size();
    }
    const Owner claims{image.get(), {image->mpi.stated, bytes}};
    Owner& owner = owners[*image->rank];
    if (owner.image == nullptr) {
      owner = claims;
      continue;
    }
    ProcessImage* loser = claims.weight > owner.weight ? owner.image : image.get();
    if (loser == owner.image) owner = claims;
    warnings.push_back(
        fmt::format("several processes say that they are rank {}; the busiest is", *loser->rank));
    loser->rank.reset();
    loser->world_size.reset();
  }
}

std::vector<std::filesystem::path> files_ending(const std::filesystem::path& folder,
                                                std::string_view end) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().filename().string().ends_with(end)) files.push_back(entry.path());
  }
  if (error) throw input_error("{}: cannot read the folder: {}", folder.string(), error.message());
  std::ranges::sort(files);
  return files;
}

// What hooks inside the program could not do, as the marks that they left say it.
void add_notes_of_hooks(const TraceDb& db, std::vector<std::string>& warnings) {
  constexpr size_t kMostNotes = 20;
  // The plus keeps SQLite from going through all ranges where no such text is.
  Query notes = db.query(
      "SELECT value FROM string WHERE value GLOB 'preserve: *' AND "
      "+id IN (SELECT name_id FROM range WHERE kind = 'mark') ORDER BY id");
  size_t count = 0;
  while (notes.next()) {
    if (++count <= kMostNotes) warnings.push_back(printable(notes.text(0)));
  }
  if (count > kMostNotes) {
    warnings.push_back(fmt::format("preserve: and {} more notes", count - kMostNotes));
  }
}

}  // namespace

std::vector<std::filesystem::path> spool_files(const std::filesystem::path& folder) {
  return files_ending(folder, ".spool");
}

std::vector<std::filesystem::path> unwritten_files(const std::filesystem::path& folder) {
  return files_ending(folder, std::string(".spool") + spool::kUnwritten);
}

ConvertSummary convert_spools(const std::vector<std::filesystem::path>& files, TraceDb& db,
                              const ConvertOptions& options) {
  ConvertSummary summary;
  std::vector<SpoolFileReader> readers;
  std::vector<std::unique_ptr<ProcessImage>> images;
  std::map<std::string, uint64_t> undescribed;
  double total = 0, done = 0;
  int64_t unreadable = 0;
  for (const std::filesystem::path& file : files) {
    if (::access(file.c_str(), R_OK) != 0) {  // not damaged: it waits for somebody who may
      throw input_error("{}: cannot open: {}", file.string(), std::strerror(errno));
    }
    try {
      readers.emplace_back(file);
    } catch (const Error& error) {
      if (++unreadable == static_cast<int64_t>(files.size())) throw;
      summary.losses.push_back(fmt::format("a whole process: {}", error.what()));
      summary.complete = false;
      continue;
    }
    images.push_back(std::make_unique<ProcessImage>(readers.back()));
    for (const auto& [name, calls] : images.back()->undescribed) undescribed[name] += calls;
    for (const auto& [thread, chunks] : images.back()->threads) {
      for (const std::string_view chunk : chunks) {
        total += ProcessConverter::kReadings * static_cast<double>(chunk.size());
      }
    }
  }
  for (const std::filesystem::path& file : options.unwritten) {
    summary.losses.push_back(
        fmt::format("a whole process: {} could not be written (a limit on the size of files or "
                    "on processes, a full disk), or it was killed at once",
                    printable(file.filename().string())));
    summary.complete = false;
    ++unreadable;
  }
  if (!undescribed.empty()) {
    std::string list;
    for (const auto& [name, calls] : undescribed) {
      list += fmt::format("{}{} {}", list.empty() ? "" : ", ", printable(name), calls);
    }
    summary.warnings.push_back("MPI calls that are only counted, not recorded: " + list);
  }
  const auto spawned = std::ranges::count_if(images, &ProcessImage::spawned);
  if (spawned > 0) {
    summary.warnings.push_back(
        fmt::format("{} started by MPI_Comm_spawn: recorded without a rank, since theirs count "
                    "another MPI_COMM_WORLD",
                    spawned == 1 ? "1 process was" : fmt::format("{} processes were", spawned)));
  }
  settle_ranks(images, summary.warnings);
  if (unreadable > 0) {
    db.add_loss({}, "spool", "received",
                static_cast<int64_t>(files.size() + options.unwritten.size()));
    db.add_loss({}, "spool", "written", static_cast<int64_t>(readers.size()));
    db.add_loss({}, "spool", "damaged", unreadable);
  }
  std::vector<size_t> order(readers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&images](size_t a, size_t b) {
    const int64_t rank_a = images[a]->rank.value_or(INT64_MAX);
    const int64_t rank_b = images[b]->rank.value_or(INT64_MAX);
    if (rank_a != rank_b) return rank_a < rank_b;
    return images[a]->clock.first_ns() < images[b]->clock.first_ns();
  });
  gpu::KernelRules kernel_rules;
  for (const std::string& file : options.kernel_rules) kernel_rules.add_file(file);
  Names names(db);
  StepNames step_names(options.steps);
  std::map<std::string, DeviceId> devices;
  double anonymous_bytes = 0, huge_bytes = 0;
  std::vector<clocks::Process> processes;
  std::vector<RecordedProcess> recorded;
  for (const size_t i : order) {
    if (images[i]->rank) {  // not the launcher and its helpers
      anonymous_bytes += static_cast<double>(images[i]->anonymous_bytes);
      huge_bytes += static_cast<double>(images[i]->huge_bytes);
    }
    if (!images[i]->mpi_library.empty() && db.meta("mpi_library").empty()) {
      db.set_meta("mpi_library", images[i]->mpi_library);
    }
    auto [device, added] = devices.try_emplace(images[i]->host);
    if (added) device->second = db.add(host_device(images[i]->host));
    ProcessConverter converter(readers[i], *images[i], db, names, device->second, step_names,
                               kernel_rules, summary);
    converter.run([&](size_t bytes) {
      done += static_cast<double>(bytes);
      if (options.progress) options.progress(done, total);
    });
    recorded.push_back({converter.process(), converter.who(), images[i]->rank,
                        images[i]->world_size, converter.gpus()});
    std::vector<ProcessId> rows = converter.gpus();
    if (rows.empty()) rows.push_back(converter.process());
    for (const ProcessId row : rows) {
      processes.push_back({row, images[i]->host, images[i]->host, images[i]->launchers_clock,
                           images[i]->clock.last_ns()});
    }
    images[i].reset();
  }
  if (anonymous_bytes > 0) {
    db.set_meta("pages", 2 * huge_bytes > anonymous_bytes ? "huge" : "base");
  }
  clocks::Outcome clocks = clocks::to_one_clock(db, processes);
  summary.notes = std::move(clocks.notes);
  std::ranges::move(count_gpus_as_ranks(db, recorded), std::back_inserter(summary.notes));
  summary.warnings.insert(summary.warnings.end(), clocks.warnings.begin(), clocks.warnings.end());
  if (!clocks.apart.empty()) {
    summary.warnings.push_back(fmt::format(
        "the clock of {} is not aligned with the others': its processes could not reach the "
        "launcher by TCP and have no collective in common with theirs",
        printable(fmt::format("{}", fmt::join(clocks.apart, ", ")))));
  }
  add_notes_of_hooks(db, summary.warnings);
  summary.complete = summary.complete && !options.interrupted;
  db.set_meta("incomplete", summary.complete ? "0" : "1");
  summary.steps = mark_steps(db, options.steps);
  return summary;
}

}  // namespace preserve
