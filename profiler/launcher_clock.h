// SPDX-License-Identifier: Apache-2.0
// How a recorded process, on whichever host, reads the clock of preserve-profile that started it: a
// TCP connection, over which the process sends the token of the recording (8 bytes) and then any
// number of questions (8 bytes each, one at a time); each is answered with the launcher's
// CLOCK_MONOTONIC in ns (8 bytes, of the host's byte order, as spools are). A question that is not 0
// asks the launcher to wait for the next one in the kernel, not on its core: both sides must wait
// alike, else one way takes longer than the other.
//
// PRESERVE_CLOCK=TOKEN@PORT@ADDRESS[,ADDRESS...]: token in hexadecimal, addresses as numbers.
#pragma once

#include <cstddef>

namespace preserve::launcher_clock {

inline constexpr const char* kVariable = "PRESERVE_CLOCK";
inline constexpr size_t kMostAddresses = 16;
inline constexpr int kPatienceMs = 100;  // with a peer that says nothing

}  // namespace preserve::launcher_clock
