// SPDX-License-Identifier: Apache-2.0
// Any bytes as schedule.json and as device.json: refused with an Error, or read; what was read is
// written and read again to the same text. Nothing else may be thrown.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/error.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"

namespace {

const std::filesystem::path& scratch() {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() /
      ("preserve_fuzz_schedule." + std::to_string(::getpid()));
  static const bool registered = std::atexit([] { std::filesystem::remove(path); }) == 0;
  static_cast<void>(registered);
  return path;
}

void write(const std::string& text) {
  std::ofstream(scratch(), std::ios::binary | std::ios::trunc) << text;
}

template <typename Load>
void round_trip(const std::string& input, Load load) {
  write(input);
  std::string text;
  try {
    text = to_json(load(scratch()));
  } catch (const preserve::Error& error) {
    if (error.kind() != preserve::ErrorKind::input) std::abort();
    return;
  }
  write(text);
  if (to_json(load(scratch())) != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  round_trip(input, preserve::load_schedule);
  round_trip(input, preserve::load_device);
  return 0;
}
