// SPDX-License-Identifier: Apache-2.0
// report_inputs DIRECTORY LAYERS: the inputs of a report made from numbers (scenario_files.h), of a
// step of so many layers; prints their paths. For the tests in a browser and the bench of the page.
#include <cstdio>
#include <cstdlib>

#include "tests/reports/scenario_files.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  for (const auto& path : preserve::test::write_two_scenarios(argv[1], std::atoi(argv[2]))) {
    std::puts(path.c_str());
  }
  return 0;
}
