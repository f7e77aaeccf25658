// SPDX-License-Identifier: Apache-2.0
#include "planner/search/methods.h"

namespace preserve {

std::vector<std::string> methods_to_plan(const FoldedStep& step, const DeviceModel& device,
                                         const ProblemOptions& options) {
  const PrefetchMethod* first = choose_method(device, options.method);
  if (first == nullptr) return {""};
  std::vector<std::string> names = {full_name(issue_method(*first))};
  if (!options.method.empty() || step.ops.size() > kMostOpsToPlanAgain) return names;
  const PrefetchMethod* other =
      find_method(device, {}, first->placement == "spare" ? "consumer" : "spare");
  if (other != nullptr) names.push_back(full_name(issue_method(*other)));
  return names;
}

}  // namespace preserve
