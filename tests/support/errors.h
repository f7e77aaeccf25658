// SPDX-License-Identifier: Apache-2.0
// EXPECT_THAT([&] { load_device(path); }, fails_with("device.json"));
// EXPECT_THAT([&] { load_device(path); }, fails_with(ErrorKind::input, HasSubstr("is missing")));
#pragma once

#include <gmock/gmock.h>

#include <string>

#include "common/error.h"

namespace preserve::test {

// Throws an Error whose message contains `part`.
inline auto fails_with(const std::string& part) {
  return testing::ThrowsMessage<Error>(testing::HasSubstr(part));
}

// Throws an Error of that kind whose message matches.
template <typename Matcher>
auto fails_with(ErrorKind kind, Matcher message) {
  return testing::Throws<Error>(
      testing::AllOf(testing::Property("kind", &Error::kind, kind),
                     testing::Property("message", &Error::what, message)));
}

}  // namespace preserve::test
