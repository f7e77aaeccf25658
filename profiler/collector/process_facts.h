// SPDX-License-Identifier: Apache-2.0
// The text after a spool's header: host, command line and allow-listed environment of this
// process.
#pragma once

#include <cstddef>

namespace preserve::collector {

struct ProcessFacts {
  char* text;  // name NUL value NUL ..., padded with NUL to 8; static storage, of the last call
  size_t bytes;
};
ProcessFacts gather_process_facts(const char* host);

}  // namespace preserve::collector
