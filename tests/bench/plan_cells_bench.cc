// SPDX-License-Identifier: Apache-2.0
// What planning gains, cell by cell: six models, the shipped devices, 2 to 8 ranks, three batch
// sizes and two contexts.
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "planner/search/plan.h"
#include "planner/workload/workload.h"
#include "tests/bench/metric.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

struct Cell {
  std::string name;
  FoldedStep step;
  const DeviceModel* device;
};

void for_each_cell(const std::function<void(const Cell&)>& use) {
  const fs::path examples = fs::path(PRESERVE_SOURCE_DIR) / "examples";
  for (const std::string device_name : {"a100-80g", "ascend-910b", "b200", "h100-sxm", "h200", "l40s",
                                        "rtx-pro-6000"}) {
    const DeviceModel device = load_device(examples / "devices" / (device_name + ".json"));
    for (const std::string model : {"llama3-8b", "llama3-70b", "qwen2-7b", "qwen2-72b",
                                    "phi-3-small", "phi-3-medium"}) {
      WorkloadSpec spec;
      spec.model = load_model_config(examples / "models" / (model + ".json"));
      // No published table of this device: an assumption, long enough to fill.
      if (device.collectives.empty()) spec.allreduce_ns = 60'000;
      for (const int64_t ranks : {2, 4, 8}) {
        for (const int64_t batch : {1, 8, 64}) {
          for (const int64_t context : {1024, 16384}) {
            if (device_name == "rtx-pro-6000" && ranks != 8) continue;  // no table of fewer
            spec.ranks = ranks;
            spec.batch = batch;
            spec.context = context;
            try {
              use({fmt::format("{} {} tp{} b{} {}", device_name, model, ranks, batch, context),
                   make_workload(spec, device), &device});
            } catch (const Error& error) {
              if (error.kind() != ErrorKind::not_applicable) throw;  // else: no such cell
            }
          }
        }
      }
    }
  }
}

int64_t planned_ns(const Cell& cell, WindowsMode windows) {
  PlanOptions options;
  options.problem.windows = windows;
  return make_schedule(cell.step, *cell.device, options).schedule.plan.prefetch_step_ns;
}

void print_cells(int every) {
  int number = 0;
  for_each_cell([&](const Cell& cell) {
    if (number++ % every != 0) return;
    const auto start = std::chrono::steady_clock::now();
    const int64_t plan_ns = planned_ns(cell, WindowsMode::collective);
    const double took_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    const nlohmann::ordered_json line{
        {"cell", cell.name},   {"operators", cell.step.ops.size()}, {"step_ns", cell.step.wall_ns},
        {"plan_ns", plan_ns},  {"idle_ns", planned_ns(cell, WindowsMode::idle)},
        {"took_ms", took_ms}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  });
}

}  // namespace
}  // namespace preserve

int main(int argc, char** argv) {
  preserve::print_cells(argc > 1 ? std::atoi(argv[1]) : 1);
}
