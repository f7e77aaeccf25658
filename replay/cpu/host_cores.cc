// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/host_cores.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>

#include "common/environment.h"
#include "common/error.h"

namespace preserve {
namespace {

struct TopologyDeleter {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyDeleter>;

Topology load_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) throw internal_error("hwloc: no topology object");
  Topology owner(topology);
  if (hwloc_topology_load(topology) != 0) {
    throw input_error("hwloc cannot read this machine's topology: {}", std::strerror(errno));
  }
  return owner;
}

// Whole cores that the container's quota pays for; no limit when there is no quota. Rounded down: a
// rank that is throttled by the quota halts the others too.
int64_t quota_cores() {
  int64_t quota = 0;
  int64_t period = 0;
  if (std::istringstream v2(first_line("/sys/fs/cgroup/cpu.max")); v2 >> quota >> period) {
    return std::max<int64_t>(1, period > 0 ? quota / period : 1);
  }
  std::istringstream v1_quota(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"));
  std::istringstream v1_period(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
  if (v1_quota >> quota && v1_period >> period && quota > 0 && period > 0) {
    return std::max<int64_t>(1, quota / period);
  }
  return std::numeric_limits<int64_t>::max();
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::string clock_note(int cpu) {
  const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq/";
  const std::string governor = first_line(folder + "scaling_governor");
  if (governor.empty()) return "clock: not controlled by this kernel (virtual machine?)";
  return "clock: governor " + governor + ", at most " + first_line(folder + "scaling_max_freq") +
         " kHz";
}

// The largest cache above the core: the level that ranks share and that prefetches aim at.
void find_caches(hwloc_topology_t topology, hwloc_obj_t core, const hwloc_cpuset_t usable,
                 HostCores& host) {
  for (hwloc_obj_t object = core; object != nullptr; object = object->parent) {
    if (!hwloc_obj_type_is_dcache(object->type) && object->type != HWLOC_OBJ_L2CACHE &&
        object->type != HWLOC_OBJ_L3CACHE && object->type != HWLOC_OBJ_L4CACHE) {
      continue;
    }
    host.private_cache_bytes = host.cache_bytes;
    host.cache_bytes = static_cast<int64_t>(object->attr->cache.size);
    host.cache_cores = 0;
    const int cores =
        hwloc_get_nbobjs_inside_cpuset_by_type(topology, object->cpuset, HWLOC_OBJ_CORE);
    for (int i = 0; i < cores; ++i) {
      const hwloc_obj_t other = hwloc_get_obj_inside_cpuset_by_type(
          topology, object->cpuset, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
      if (hwloc_bitmap_intersects(other->cpuset, usable) != 0) ++host.cache_cores;
    }
  }
}

int64_t kib_field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == name && file >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace

HostCores find_host_cores() {
  HostCores host{.host = host_name(), .cpu_name = processor_name()};
  const Topology topology = load_topology();
  hwloc_cpuset_t usable = hwloc_bitmap_alloc();
  const std::unique_ptr<std::remove_pointer_t<hwloc_cpuset_t>, void (*)(hwloc_bitmap_t)> owner(
      usable, hwloc_bitmap_free);
  if (hwloc_get_cpubind(topology.get(), usable, HWLOC_CPUBIND_PROCESS) != 0) {
    hwloc_bitmap_copy(usable, hwloc_topology_get_allowed_cpuset(topology.get()));
  }
  const int cores = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_CORE);
  hwloc_obj_t first = nullptr;
  for (int i = 0; i < cores; ++i) {
    const hwloc_obj_t core =
        hwloc_get_obj_by_type(topology.get(), HWLOC_OBJ_CORE, static_cast<unsigned>(i));
    for (int cpu = hwloc_bitmap_first(core->cpuset); cpu >= 0;
         cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
      if (hwloc_bitmap_isset(usable, static_cast<unsigned>(cpu)) == 0) continue;
      if (first == nullptr) first = core;
      host.cores.push_back(cpu);
      break;
    }
  }
  if (host.cores.empty()) throw input_error("hwloc finds no core that this process may run on");
  host.cores_in_affinity = static_cast<int64_t>(host.cores.size());
  if (host.cores_in_affinity > quota_cores()) {
    host.cores.resize(static_cast<size_t>(quota_cores()));
  }
  find_caches(topology.get(), first, usable, host);
  host.cache_cores = std::min<int64_t>(host.cache_cores, static_cast<int64_t>(host.cores.size()));
  host.clock_note = clock_note(host.cores.front());
  return host;
}

void pin_this_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  if (const int code = pthread_setaffinity_np(pthread_self(), sizeof set, &set); code != 0) {
    throw input_error("cannot pin a thread to CPU {}: {}", cpu, std::strerror(code));
  }
}

int64_t available_memory_bytes() {
  int64_t available = kib_field("/proc/meminfo", "MemAvailable:");
  int64_t limit = 0;
  int64_t used = 0;
  if (std::istringstream max(first_line("/sys/fs/cgroup/memory.max")); max >> limit) {
    std::istringstream current(first_line("/sys/fs/cgroup/memory.current"));
    if (current >> used) available = std::min(available, std::max<int64_t>(0, limit - used));
  }
  return available;
}

namespace {

// "always [madvise] never"
std::string huge_page_policy() {
  return first_line("/sys/kernel/mm/transparent_hugepage/enabled");
}

}  // namespace

bool gives_huge_pages() {
  const std::string line = huge_page_policy();
  return !line.empty() && line.find("[never]") == std::string::npos;
}

std::string page_policy() {
  const std::string line = huge_page_policy();
  const int64_t page_kib = ::sysconf(_SC_PAGESIZE) / 1024;
  const char* huge = line.find("[always]") != std::string::npos    ? "transparent huge pages"
                     : line.find("[madvise]") != std::string::npos ? "huge pages only on request"
                                                                   : "no huge pages";
  return fmt::format("{} KiB, {}", page_kib, huge);
}

}  // namespace preserve
