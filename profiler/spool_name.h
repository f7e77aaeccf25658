// SPDX-License-Identifier: Apache-2.0
// Names of spool files: HOST-PID-N.spool, with kUnwritten behind it until there is a header.
#pragma once

namespace preserve::spool {

inline constexpr char kUnwritten[] = ".new";

}  // namespace preserve::spool
