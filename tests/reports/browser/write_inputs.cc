// SPDX-License-Identifier: Apache-2.0
// report_inputs DIRECTORY LAYERS: the inputs of a report made from numbers (scenario_files.h), of a
// step of so many layers; prints their paths. For the tests in a browser and the bench of the page.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/reports/scenario_files.h"
#include "tests/support/synthetic_grid.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  preserve::test::write_synthetic_grid(std::filesystem::path(argv[1]) / "grid.db");
  for (const auto& path : preserve::test::write_two_scenarios(argv[1], std::atoi(argv[2]))) {
    std::puts(path.c_str());
  }
  return 0;
}
