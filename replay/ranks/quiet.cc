// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/quiet.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <sstream>
#include <thread>

#include "common/clock.h"
#include "common/environment.h"
#include "common/number.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr int64_t kLookNs = 200'000'000;  // twenty ticks of the kernel's accounting
constexpr double kLeastShownCores = 0.05;
constexpr double kToleratedCores = 0.2;  // of all others together
constexpr size_t kMostNamed = 3;

struct ProcessTicks {
  std::string name;
  int64_t ticks = 0;
};

std::map<int64_t, ProcessTicks> ticks_of_processes() {
  std::map<int64_t, ProcessTicks> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = number_of<int64_t>(entry.path().filename().string());
    if (!pid) continue;
    ProcessTicks process;
    if (!parse_process_stat(first_line(entry.path() / "stat"), process.name, process.ticks)) {
      continue;  // it ended meanwhile
    }
    found.emplace(*pid, std::move(process));
  }
  return found;
}

// /proc/stat: "cpu user nice system idle iowait irq softirq steal ...".
int64_t stolen_ticks() {
  std::istringstream words(first_line("/proc/stat"));
  std::string label;
  words >> label;
  int64_t ticks = 0;
  for (int field = 0; field < 8; ++field) {
    if (!(words >> ticks)) return 0;
  }
  return ticks;
}

}  // namespace

bool parse_process_stat(std::string_view line, std::string& name, int64_t& ticks) {
  // "PID (NAME) STATE ..."; a name may hold any bracket and space.
  const size_t open = line.find('(');
  const size_t close = line.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return false;
  }
  name = line.substr(open + 1, close - open - 1);
  std::istringstream words{std::string(line.substr(close + 1))};
  std::string skipped;
  for (int field = 3; field < 14; ++field) words >> skipped;
  int64_t user = 0, system = 0;
  if (!(words >> user >> system) || user < 0 || system < 0) return false;
  ticks = user + system;
  return true;
}

HostLoad look_at_load(int64_t look_ns) {
  const int64_t start_ns = monotonic_ns();
  const std::map<int64_t, ProcessTicks> before = ticks_of_processes();
  const int64_t stolen_before = stolen_ticks();
  std::this_thread::sleep_for(std::chrono::nanoseconds(look_ns));
  const std::map<int64_t, ProcessTicks> after = ticks_of_processes();
  const int64_t stolen = stolen_ticks() - stolen_before;
  const double ticks = static_cast<double>(monotonic_ns() - start_ns) *
                       static_cast<double>(::sysconf(_SC_CLK_TCK)) / 1e9;
  HostLoad load;
  load.stolen_cores = static_cast<double>(std::max<int64_t>(stolen, 0)) / ticks;
  const auto self = after.find(::getpid());
  for (const auto& [pid, process] : after) {
    if (self != after.end() && process.name == self->second.name) continue;
    const auto earlier = before.find(pid);
    // The time of one that began meanwhile is its own from 0 on.
    const int64_t used = process.ticks - (earlier == before.end() ? 0 : earlier->second.ticks);
    const double cores = static_cast<double>(used) / ticks;
    if (cores <= 0) continue;
    load.cores += cores;
    if (cores >= kLeastShownCores) load.processes.push_back({pid, process.name, cores});
  }
  std::ranges::stable_sort(load.processes, std::ranges::greater(), &BusyProcess::cores);
  return load;
}

bool is_quiet(const HostLoad& load, int64_t needed, int64_t cores) {
  const auto spare = static_cast<double>(std::max<int64_t>(cores - needed, 0));
  return load.cores <= spare + kToleratedCores && load.stolen_cores <= kToleratedCores;
}

std::string describe(const HostLoad& load) {
  std::vector<std::string> parts;
  for (const BusyProcess& process : load.processes) {
    if (parts.size() == kMostNamed) break;
    parts.push_back(fmt::format("process {} ({}) uses {:.1f} cores", process.pid,
                                printable(process.name, 40), process.cores));
  }
  if (parts.empty() && load.cores > 0) {
    parts.push_back(fmt::format("many small processes use {:.1f} cores", load.cores));
  }
  if (load.stolen_cores > kToleratedCores) {
    parts.push_back(
        fmt::format("the host of this virtual machine takes {:.1f} cores away", load.stolen_cores));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

void wait_for_quiet(Console& console, int64_t needed, int64_t cores, int64_t patience_ns) {
  const int64_t end_ns = monotonic_ns() + patience_ns;
  bool said = false;
  while (true) {
    const HostLoad load = look_at_load(kLookNs);
    if (is_quiet(load, needed, cores)) return;
    if (monotonic_ns() >= end_ns) {
      console.warn("the machine is busy, timings may not repeat: " + describe(load));
      return;
    }
    if (!said) {
      console.info(fmt::format("waiting up to {} (--patience) for a quiet machine: {}",
                               format_duration(patience_ns), describe(load)));
      said = true;
    }
  }
}

}  // namespace preserve
