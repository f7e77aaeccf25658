// SPDX-License-Identifier: Apache-2.0
// Which cells a grid has: words such as tp=4,8 or context=2K,8K narrow the whole grid of the paper.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "db/grid/cells.h"
#include "planner/schedule/device.h"

namespace preserve {

struct GridSelection {
  std::vector<std::string> models;  // names or paths, as given
  std::vector<int64_t> ranks{2, 4, 8};
  std::vector<int64_t> batches{1, 4, 8, 16, 32, 64};
  std::vector<int64_t> contexts{2048, 4096, 8192, 16384, 32768};
  std::vector<std::string> dtypes;  // empty: fp16, and fp8 or int8, whatever the device can do
};

// Keys: models, tp, batch, context, dtype. usage_error for a word that is none, a key or a value
// that is there twice, and a number out of range.
GridSelection parse_selection(const std::vector<std::string>& words);

// fp16, and fp8 where the device has a rate for it, else int8; or as selected. usage_error when the
// device states no rate for a type that was asked for.
std::vector<std::string> dtypes_for(const GridSelection& selection, const DeviceModel& device);

// All cells, pending, numbered from 1: models outermost, contexts innermost. usage_error when there
// are too many.
std::vector<GridCell> cells_of(const GridSelection& selection,
                               const std::vector<std::string>& models,
                               const std::vector<std::string>& dtypes);

// "tp=4,8 batch=1,8 context=2048,8192": the same for selections that mean the same.
std::string text_of(const GridSelection& selection, const std::vector<std::string>& dtypes);

}  // namespace preserve
