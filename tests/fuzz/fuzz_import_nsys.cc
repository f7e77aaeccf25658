// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_import.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto path = preserve::fuzz::input_file(".sqlite");
  preserve::fuzz::write_file(path, data, size);
  preserve::fuzz::import_one_way({path}, size);
  std::filesystem::remove(path);
  return 0;
}
