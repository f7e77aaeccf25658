// SPDX-License-Identifier: Apache-2.0
// Most inputs only go through tokenizer and reader, against one database: a new one costs a hundred
// times as much. Every eighth length takes the whole way, decompression and joins included.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "profiler/import/kineto/file.h"
#include "tests/fuzz/fuzz_import.h"

namespace {

class MemoryBytes : public preserve::import::ByteSource {
 public:
  MemoryBytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  size_t read(char* out, size_t size) override {
    const size_t count = std::min(size, left_);
    if (count != 0) std::memcpy(out, data_, count);
    data_ += count;
    left_ -= count;
    return count;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

void read_only(const uint8_t* data, size_t size) {
  using namespace preserve;
  constexpr int kInputsPerDatabase = 5'000;  // names pile up in it
  static const gpu::KernelRules rules;
  static std::optional<TraceDb> db;
  static int inputs = 0;
  if (inputs++ % kInputsPerDatabase == 0) db.emplace(TraceDb::create(":memory:"));
  const auto open = [&] {
    return std::unique_ptr<import::ByteSource>(std::make_unique<MemoryBytes>(data, size));
  };
  try {
    import::read_kineto(open, "input", size % 2 != 0, *db, rules);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size % 8 != 0) {
    read_only(data, size);
    return 0;
  }
  static const auto path = preserve::fuzz::input_file(".json");
  preserve::fuzz::write_file(path, data, size);
  preserve::fuzz::import_one_way({path}, size / 8);
  std::filesystem::remove(path);
  return 0;
}
