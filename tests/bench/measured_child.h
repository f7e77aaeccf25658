// SPDX-License-Identifier: Apache-2.0
// A loop that is measured in a process of its own: what a library adds to a program is the
// difference between children with and without it, alternating.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/child_process.h"
#include "common/error.h"

namespace preserve::bench {

// The number that this program prints as a child with `mode` as its argument. The environment
// ("NAME=value") is added to ours.
inline double measured_child(const std::string& mode, std::vector<std::string> environment) {
  ChildSetup setup{.argv = {"/proc/self/exe", mode}, .environment = std::move(environment)};
  setup.pipe_output = true;
  Child child(setup);
  std::string text;
  ChildWatch watch;
  watch.out = [&](std::string_view piece) { text += piece; };
  watch.err = [](std::string_view piece) { std::fwrite(piece.data(), 1, piece.size(), stderr); };
  if (child.wait(watch).exit_code != 0 || text.empty()) {
    throw internal_error("the measured loop failed");
  }
  return std::stod(text);
}

}  // namespace preserve::bench
