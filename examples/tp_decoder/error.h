// SPDX-License-Identifier: Apache-2.0
// What is wrong with the config, the options or the machine, in words for the person who started
// the decoder. main() prints it and exits with 2.
#pragma once

#include <stdexcept>

namespace tp_decoder {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace tp_decoder
