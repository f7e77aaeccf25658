// SPDX-License-Identifier: Apache-2.0
#include "replay/step/transport.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

#include "common/text.h"

namespace preserve {
namespace {

constexpr size_t kMostValueBytes = 256;

bool is_transport(std::string_view name) {
  // How a launcher deals with too few cores is this machine's; mpirun sets that and PSM2's itself.
  constexpr std::array kOurs{"OMPI_MCA_mpi_oversubscribe", "OMPI_MCA_mpi_yield_when_idle",
                             "PSM2_DEVICES"};
  if (std::ranges::find(kOurs, name) != kOurs.end()) return false;
  constexpr std::array kPrefixes{"OMPI_MCA_btl",  "OMPI_MCA_pml",   "OMPI_MCA_mtl", "OMPI_MCA_coll",
                                 "OMPI_MCA_mpi_", "OMPI_MCA_opal_", "UCX_",         "FI_",
                                 "PSM2_",         "PSM3_",          "HCOLL_"};
  return std::ranges::any_of(kPrefixes,
                             [name](std::string_view prefix) { return name.starts_with(prefix); });
}

bool names_a_place(std::string_view name) {
  constexpr std::array kWords{"DIR", "PATH", "FILE", "LOG", "MODULE", "LIB", "PRELOAD"};
  std::string upper(name);
  std::ranges::transform(upper, upper.begin(),
                         [](unsigned char letter) { return std::toupper(letter); });
  return std::ranges::any_of(
      kWords, [&](const char* word) { return upper.find(word) != std::string::npos; });
}

bool is_plain(std::string_view value) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_,.:^=+-";
  return value.size() <= kMostValueBytes && value.find_first_not_of(kAllowed) == value.npos;
}

std::map<std::string, std::string> settings_here(const std::vector<std::string>& mpirun_options) {
  std::map<std::string, std::string> settings;
  const auto set = [&](const std::string& name, const std::string& value) {
    if (is_transport(name)) settings[name] = value;
  };
  const auto assign = [&](const std::string& text) {
    const size_t equals = text.find('=');
    if (equals != text.npos) set(text.substr(0, equals), text.substr(equals + 1));
  };
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) assign(*entry);
  for (size_t i = 0; i + 1 < mpirun_options.size(); ++i) {
    const std::string &option = mpirun_options[i], &next = mpirun_options[i + 1];
    if (option == "-x") assign(next);
    if (!option.ends_with("-mca") && !option.ends_with("-gmca")) continue;
    if (i + 2 < mpirun_options.size()) set("OMPI_MCA_" + next, mpirun_options[i + 2]);
  }
  return settings;
}

}  // namespace

Transport compare_transport(const TraceDb& db, int64_t rank,
                            const std::vector<std::string>& mpirun_options) {
  Transport found;
  std::map<std::string, std::string> here = settings_here(mpirun_options);
  bool recorded = false;
  Query rows = db.query(
      "SELECT DISTINCT env.name, env.value FROM env JOIN process ON process.id = env.process_id"
      " WHERE process.rank = ? ORDER BY env.name",
      {rank});
  while (rows.next()) {
    const std::string name(rows.text(0)), value(rows.text(1));
    recorded = true;
    if (!is_transport(name)) continue;
    if (const auto set = here.find(name); set != here.end()) {
      if (value != set->second) {
        found.warnings.push_back(
            fmt::format("another transport than recorded: {} is {} here, it was {}",
                        printable(name, 80), printable(set->second, 80), printable(value, 80)));
      }
      here.erase(set);
    } else if (is_plain(value) && !names_a_place(name)) {
      found.missing.push_back(name + "=" + value);
    } else {
      found.warnings.push_back(
          fmt::format("{} was {} in the recording and is not set here: a recording does not choose "
                      "files of this machine; set it yourself",
                      printable(name, 80), printable(value, 80)));
    }
  }
  // An older recording has no environment at all.
  if (!recorded) return found;
  for (const auto& [name, value] : here) {
    found.warnings.push_back(
        fmt::format("another transport than recorded: {} is {} here, it was not set",
                    printable(name, 80), printable(value, 80)));
  }
  return found;
}

std::string other_mpi_library(const TraceDb& db, const std::string& here) {
  const std::string recorded = db.meta("mpi_library");
  if (recorded.empty() || recorded == here) return "";
  return fmt::format("recorded with {}, replayed with {}: collectives may take other times",
                     printable(recorded, 80), printable(here, 80));
}

}  // namespace preserve
