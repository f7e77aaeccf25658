// SPDX-License-Identifier: Apache-2.0
// The part of this host that a replay may use: one hardware thread per physical core inside the
// affinity mask and the container's CPU quota, the shared cache (hwloc), the memory that is free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace preserve {

struct HostCores {
  std::string host, cpu_name;
  std::vector<int> cores{};       // logical CPU numbers, one per core, nearest to each other first
  int64_t cores_in_affinity = 0;  // before the CPU quota was applied
  int64_t cache_bytes = 0;        // last-level cache of the first core; 0: hwloc knows none
  int64_t cache_cores = 0;        // usable cores that share it
  int64_t private_cache_bytes = 0;  // the level above it, 0 when there is none
  std::string clock_note{};         // clock of the first core as the kernel reports it
};

HostCores find_host_cores();

// Binds the calling thread to one logical CPU. input_error when the system refuses.
void pin_this_thread(int cpu);

// Memory that can be had without swapping, inside the container's limit.
int64_t available_memory_bytes();

// Page size policy that an ordinary allocation of this process gets: "4 KiB pages (transparent huge
// pages only on request)".
std::string page_policy();
// Whether a program can have huge pages here by asking for them.
bool gives_huge_pages();

}  // namespace preserve
