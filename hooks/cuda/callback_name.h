// SPDX-License-Identifier: Apache-2.0
// Names that CUPTI gives callbacks of the driver: a function with its version and stream variant,
// cuGraphLaunch_v2, cuGraphLaunch_ptsz, cuMemcpy_v2_ptds, cudaGraphAddNode_v10000.
#pragma once

#include <string_view>

namespace preserve::hooks {

inline bool is_function(std::string_view name, std::string_view function) {
  return name.substr(0, function.size()) == function &&
         (name.size() == function.size() || name[function.size()] == '_');
}

}  // namespace preserve::hooks
