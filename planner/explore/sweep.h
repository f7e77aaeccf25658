// SPDX-License-Identifier: Apache-2.0
// Which cells there are: sheets of axes, each the product of its axes; cells are numbered through
// all sheets from 1. A sweep is checked as a whole before any cell is evaluated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/explore/cells.h"
#include "planner/explore/cell/point.h"
#include "planner/explore/keys.h"

namespace preserve {

struct SweepSheet {
  std::string title;
  std::vector<SweepAxis> axes{};  // in the order of SweepKey; made so by Sweep

  const SweepAxis* find(SweepKey key) const;
  void set(SweepAxis axis);  // instead of the one of its key
  int64_t cells() const;     // usage_error above kMostExploreCells
};

// What the words of the axes model and device mean.
struct SweepInputs {
  std::vector<ModelConfig> models;
  std::vector<DeviceModel> devices;
  std::optional<AreaModel> area;
};

// The file that a word means: a path, or a name of examples/`folder`. usage_error when it is none.
std::string input_file(const std::string& word, const char* folder);

// Loads the models and devices that the sheets name, once each, and replaces file names in the
// sheets by the names inside. `warnings` gets what the loaders doubt. `collectives`: library whose
// times of the devices are taken, empty: the first of each file.
SweepInputs load_inputs(std::vector<SweepSheet>& sheets, const std::string& area_file,
                        std::vector<std::string>& warnings, const std::string& collectives = {});

// What holds for all cells: as in ExplorePoint.
struct SweepSettings {
  bool whole_context = false, search = false;
};

class Sweep {
 public:
  // The sheets' models and devices are names of `inputs`. Defaults of keys that a sheet lacks: tp
  // 4, batch 4, context 16K.
  Sweep(std::vector<SweepSheet> sheets, SweepInputs inputs, const SweepSettings& settings);

  // usage_error or input_error for what cannot work: heads that the devices do not divide (unless
  // `allow_uneven`, where such cells are not available), types without an arithmetic rate,
  // collectives without a time, keys that would change nothing, and (unless `allow_uneven`) a sweep
  // of which no cell fits the memory.
  void check(bool allow_uneven) const;

  const std::vector<SweepSheet>& sheets() const { return sheets_; }
  const SweepInputs& inputs() const { return inputs_; }
  int64_t cells() const { return cells_; }
  int64_t first_cell(size_t sheet) const { return first_.at(sheet); }  // its id
  ExplorePoint point(int64_t id) const;
  ExploreCell cell(int64_t id) const;  // evaluated

 private:
  const ModelConfig& model(const std::string& name) const;
  const DeviceModel& device(const std::string& name) const;
  void check_sheet(const SweepSheet& sheet, bool allow_uneven) const;
  void check_memory(size_t sheet) const;

  std::vector<SweepSheet> sheets_;
  SweepInputs inputs_;
  SweepSettings settings_;
  std::vector<int64_t> first_;
  int64_t cells_ = 0;
};

// As the results file names the sheets.
std::vector<ExploreSheet> sheets_of(const Sweep& sweep);

}  // namespace preserve
