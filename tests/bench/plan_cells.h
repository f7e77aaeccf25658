// SPDX-License-Identifier: Apache-2.0
// The steps on which planning is compared: six models, the shipped devices, 2 to 8 ranks, three
// batch sizes and two contexts.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

#include "common/error.h"
#include "planner/search/plan.h"
#include "planner/workload/workload.h"
#include "tests/support/examples.h"

namespace preserve::bench {

struct PlanCell {
  std::string device_name, model;  // of examples/devices and examples/models
  WorkloadSpec spec;
  FoldedStep step;
  const DeviceModel* device = nullptr;

  std::string name() const {
    return fmt::format("{} {} tp{} b{} {}", device_name, model, spec.ranks, spec.batch,
                       spec.context);
  }
};

inline void for_each_plan_cell(const std::function<void(const PlanCell&)>& use) {
  for (const std::string device_name :
       {"a100-80g", "ascend-910b", "b200", "h100-sxm", "h200", "l40s", "rtx-pro-6000"}) {
    const DeviceModel device = load_device(test::device_file(device_name));
    for (const std::string model :
         {"llama3-8b", "llama3-70b", "qwen2-7b", "qwen2-72b", "phi-3-small", "phi-3-medium"}) {
      WorkloadSpec spec;
      spec.model = load_model_config(test::model_file(model));
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
              use({device_name, model, spec, generate_workload(spec, device).step, &device});
            } catch (const Error& error) {
              if (error.kind() != ErrorKind::not_applicable) throw;  // else: no such cell
            }
          }
        }
      }
    }
  }
}

}  // namespace preserve::bench
