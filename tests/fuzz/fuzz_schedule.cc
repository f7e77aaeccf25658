// SPDX-License-Identifier: Apache-2.0
// Any bytes as schedule.json and as device.json: refused with an Error, or read; what was read is
// written and read again to the same text. Nothing else may be thrown.
#include "common/error.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"
#include "tests/fuzz/fuzz_files.h"

namespace {

template <typename Load>
void round_trip(const std::string& input, Load load) {
  static const auto path = preserve::fuzz::input_file(".json");
  preserve::fuzz::write_file(path, input.data(), input.size());
  std::string text;
  try {
    text = to_json(load(path));
  } catch (const preserve::Error& error) {
    if (error.kind() != preserve::ErrorKind::input) std::abort();
    return;
  }
  preserve::fuzz::write_file(path, text.data(), text.size());
  if (to_json(load(path)) != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  round_trip(input, preserve::load_schedule);
  round_trip(input, preserve::load_device);
  return 0;
}
