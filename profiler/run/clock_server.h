// SPDX-License-Identifier: Apache-2.0
// Answers recorded processes, on whichever host, that ask for this host's clock
// (profiler/launcher_clock.h). It tells the time to who knows the token, and nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "common/no_copy.h"

namespace preserve {

class ClockServer : NoCopy {
 public:
  ClockServer();  // input_error when there is no port to be had
  ~ClockServer();

  const std::string& variable() const { return variable_; }  // the value of PRESERVE_CLOCK

 private:
  void listen_on_all_addresses();
  void answer_all();
  void answer(int connection) const;

  int listener_ = -1;
  uint64_t token_ = 0;
  uint16_t port_ = 0;
  std::string variable_;
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace preserve
