// SPDX-License-Identifier: Apache-2.0
// Who else uses the cores of this host: a measurement that shares its cores does not repeat.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/cli.h"

namespace preserve {

struct BusyProcess {
  int64_t pid = 0;
  std::string name;
  double cores = 0;  // 1: a whole core
};

struct HostLoad {
  double cores = 0;                    // used by others, all together
  double stolen_cores = 0;             // taken by the host of this virtual machine
  std::vector<BusyProcess> processes;  // the busiest first; none below a twentieth of a core
};

// What ran during `look_ns` from now, read from /proc: without this process and those that have its
// name, which are the other ranks of the same measurement.
HostLoad look_at_load(int64_t look_ns);

// Whether `load` leaves `needed` of `cores` cores alone.
bool is_quiet(const HostLoad& load, int64_t needed, int64_t cores);

// "process 4711 (stress) uses 1.0 cores, ...": the three busiest.
std::string describe(const HostLoad& load);

// Waits until the host leaves `needed` of `cores` cores alone, at most `patience_ns`; says what it
// waits for and, when that did not end, warns who disturbs the measurement.
void wait_for_quiet(Console& console, int64_t needed, int64_t cores, int64_t patience_ns);

// CPU ticks (utime + stime) and name of a /proc/PID/stat line; false when it is none.
bool parse_process_stat(std::string_view line, std::string& name, int64_t& ticks);

}  // namespace preserve
