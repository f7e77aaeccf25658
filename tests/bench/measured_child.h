// SPDX-License-Identifier: Apache-2.0
// What is measured in a process of its own: what a library adds to a program, which is the
// difference between children with and without it, alternating; and memory, since a process never
// gives its peak back.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/child_process.h"
#include "common/error.h"
#include "tests/bench/metric.h"

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

struct Cost {
  double wall_s = 0, cpu_s = 0, peak_bytes = 0;  // user and system
};

template <typename Work>
Cost cost_of(Work work) {
  int status = -1;
  rusage usage{};
  const double wall_s = seconds_of([&] {
    const pid_t child = ::fork();
    if (child == 0) {
      work();
      std::_Exit(0);
    }
    ::wait4(child, &status, 0, &usage);
  });
  if (status != 0) throw internal_error("the measured process failed");
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return {wall_s, seconds(usage.ru_utime) + seconds(usage.ru_stime),
          static_cast<double>(usage.ru_maxrss) * 1024};
}

}  // namespace preserve::bench
