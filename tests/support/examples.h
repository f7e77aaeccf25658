// SPDX-License-Identifier: Apache-2.0
// Where the shipped models and devices are.
#pragma once

#include <string>

#include "tests/support/paths.h"

namespace preserve::test {

inline const std::string kExamples = PRESERVE_SOURCE_DIR "/examples/";

inline std::string model_file(const std::string& name) {
  return kExamples + "models/" + name + ".json";
}
inline std::string device_file(const std::string& name) {
  return kExamples + "devices/" + name + ".json";
}

}  // namespace preserve::test
