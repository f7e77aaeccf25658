// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/host_device.h"

#include <hwloc.h>

#include <memory>

#include "common/environment.h"

namespace preserve {

DeviceRow host_device(const std::string& host) {
  DeviceRow row{.host = host, .kind = "cpu", .name = "unknown processor"};
  if (host.empty() || host != host_name()) return row;
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return row;
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> topology(
      raw, &hwloc_topology_destroy);
  if (hwloc_topology_load(raw) != 0) return row;
  if (hwloc_obj_t package = hwloc_get_obj_by_type(raw, HWLOC_OBJ_PACKAGE, 0)) {
    if (const char* model = hwloc_obj_get_info_by_name(package, "CPUModel")) row.name = model;
  }
  for (const hwloc_obj_type_t level : {HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE}) {
    hwloc_obj_t cache = hwloc_get_obj_by_type(raw, level, 0);
    if (cache == nullptr || cache->attr == nullptr || cache->attr->cache.size == 0) continue;
    row.cache_bytes = static_cast<int64_t>(cache->attr->cache.size);
    break;
  }
  if (const int cores = hwloc_get_nbobjs_by_type(raw, HWLOC_OBJ_CORE); cores > 0) row.units = cores;
  const hwloc_obj_t machine = hwloc_get_root_obj(raw);
  if (machine != nullptr && machine->total_memory > 0) {
    row.memory_bytes = static_cast<int64_t>(machine->total_memory);
  }
  return row;
}

}  // namespace preserve
