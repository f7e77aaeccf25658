// SPDX-License-Identifier: Apache-2.0
// How programs must end.
//   const Run run = succeeded(tune({"-o", "-"}));
//   EXPECT_THAT(tune({"--budget", "0"}), exits(2, HasSubstr("budget of zero")));
#pragma once

#include <gmock/gmock.h>

#include <ostream>

#include "tests/support/synthetic_trace.h"

namespace preserve::test {

inline void PrintTo(const Run& run, std::ostream* out) {
  *out << "exit code " << run.exit_code << "\n" << run.out << run.err;
}

// With that code, and what it says on standard error.
inline testing::Matcher<const Run&> exits(int code,
                                          const testing::Matcher<const std::string&>& says) {
  return testing::AllOf(testing::Field("exit_code", &Run::exit_code, code),
                        testing::Field("err", &Run::err, says));
}

// The run, whose code must be 0.
inline Run succeeded(Run run, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (run.exit_code != 0) ADD_FAILURE_AT(file, line) << testing::PrintToString(run);
  return run;
}

}  // namespace preserve::test
