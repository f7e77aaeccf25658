// SPDX-License-Identifier: Apache-2.0
// Memory of rebuilt tensors and the kernels that consume it. The content is periodic: byte i of
// every tensor equals byte i mod kPatternBytes, so that reading a small cached block again and
// again (arm hot) yields the same checksum as reading the tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace preserve {

// Distance after which the content repeats; hot blocks are multiples of it.
inline constexpr int64_t kPatternBytes = 64 * 1024;

// On which pages memory lies: what an ordinary allocation gets here, or what was asked for.
enum class Pages { ordinary, huge, base };
// "huge" or "base", as a recording has it (meta.pages); anything else: ordinary.
Pages pages_of(std::string_view text);
const char* to_string(Pages pages);

// One anonymous mapping, filled by the calling thread (first touch). Move-only.
class TensorMemory {
 public:
  TensorMemory() = default;
  // input_error when the system has not got that much.
  explicit TensorMemory(int64_t bytes, Pages pages = Pages::ordinary);
  ~TensorMemory();
  TensorMemory(TensorMemory&& other) noexcept;
  TensorMemory& operator=(TensorMemory&& other) noexcept;
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Reads memory the way operators do. Not thread-safe: one per rank.
class Consumer {
 public:
  Consumer();  // makes OpenBLAS use one thread, as a rank of a tensor-parallel program does
  // Matrix-vector product (sgemv) over `bytes` of weights; the rest below one row is streamed.
  uint64_t read_weights(const std::byte* begin, int64_t bytes);
  // Streaming read: KV-cache and everything else.
  static uint64_t read_stream(const std::byte* begin, int64_t bytes);
  // Writes the content that is there already: traffic of a write, unchanged checksum.
  static void write(std::byte* begin, int64_t bytes);

 private:
  std::vector<float> ones_, result_;
};

}  // namespace preserve
