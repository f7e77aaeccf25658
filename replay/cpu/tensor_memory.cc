// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/tensor_memory.h"

#include <cblas.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/error.h"
#include "common/units.h"

// OpenBLAS's own start and end, exported where it chooses its kernels at run time.
extern "C" void gotoblas_dynamic_init() __attribute__((weak));
extern "C" void gotoblas_dynamic_quit() __attribute__((weak));

namespace preserve {
namespace {

constexpr int64_t kWord = sizeof(float);
// One row is 4 KiB: long enough for the vector loop, and any weight of a decoder is a multiple of
// it.
constexpr int64_t kRowWords = 1024;
constexpr int64_t kRowBytes = kRowWords * kWord;
// Rows of one call: OpenBLAS streams them all, the sums stay small and exact.
constexpr int64_t kRowsPerCall = 16384;

// Small whole numbers: their sums are exact in float, so every order of summation agrees.
float pattern(int64_t word) {
  return static_cast<float>((static_cast<uint64_t>(word) * 2654435761u >> 20) & 3);
}

// OpenBLAS takes its oldest kernels on a processor that is newer than itself: 18 GB/s from the
// cache of a Xeon where the right ones read 80, so that no prefetch could show. What the user has
// chosen stays.
void use_vector_kernels() {
#ifdef __x86_64__
  if (gotoblas_dynamic_init == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  if (std::string_view(openblas_get_corename()) != "Prescott") return;
  const char* kernels = __builtin_cpu_supports("avx512bw") ? "SkylakeX"
                        : __builtin_cpu_supports("avx2")   ? "Haswell"
                                                           : nullptr;
  if (kernels == nullptr) return;
  ::setenv("OPENBLAS_CORETYPE", kernels, 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  ::unsetenv("OPENBLAS_CORETYPE");
#endif
}

}  // namespace

Pages pages_of(std::string_view text) {
  return text == "huge" ? Pages::huge : text == "base" ? Pages::base : Pages::ordinary;
}

const char* to_string(Pages pages) {
  return pages == Pages::huge ? "huge" : pages == Pages::base ? "base" : "ordinary";
}

TensorMemory::TensorMemory(int64_t bytes, Pages pages) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    bytes_ = 0;
    throw input_error("cannot get {} of memory for one rank: {}", format_size(bytes),
                      std::strerror(errno));
  }
  data_ = static_cast<std::byte*>(memory);
  // A kernel without huge pages refuses both, and has what base asks for.
  if (pages != Pages::ordinary) {
    ::madvise(memory, static_cast<size_t>(bytes),
              pages == Pages::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  const int64_t first = std::min(bytes, kPatternBytes);
  for (int64_t i = 0; i + kWord <= first; i += kWord) {
    const float value = pattern(i / kWord);
    std::memcpy(data_ + i, &value, sizeof value);
  }
  for (int64_t at = first; at < bytes; at += kPatternBytes) {
    std::memcpy(data_ + at, data_, static_cast<size_t>(std::min(kPatternBytes, bytes - at)));
  }
}

TensorMemory::~TensorMemory() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
}

TensorMemory::TensorMemory(TensorMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

TensorMemory& TensorMemory::operator=(TensorMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Consumer::Consumer()
    : ones_(static_cast<size_t>(kRowWords), 1.0F), result_(static_cast<size_t>(kRowsPerCall)) {
  use_vector_kernels();
  openblas_set_num_threads(1);
}

uint64_t Consumer::read_weights(const std::byte* begin, int64_t bytes) {
  uint64_t sum = 0;
  int64_t at = 0;
  while (bytes - at >= kRowBytes) {
    const int64_t rows = std::min((bytes - at) / kRowBytes, kRowsPerCall);
    cblas_sgemv(CblasRowMajor, CblasNoTrans, static_cast<blasint>(rows),
                static_cast<blasint>(kRowWords), 1.0F, reinterpret_cast<const float*>(begin + at),
                static_cast<blasint>(kRowWords), ones_.data(), 1, 0.0F, result_.data(), 1);
    for (int64_t row = 0; row < rows; ++row) {
      sum += static_cast<uint64_t>(result_[row]);
    }
    at += rows * kRowBytes;
  }
  return sum + read_stream(begin + at, bytes - at);
}

uint64_t Consumer::read_stream(const std::byte* begin, int64_t bytes) {
  const auto* words = reinterpret_cast<const float*>(begin);
  uint64_t sum = 0;
  constexpr int64_t kBlockWords = int64_t{1} << 22;  // at most 3 each: exact in float
  for (int64_t word = 0; word < bytes / kWord; word += kBlockWords) {
    const int64_t count = std::min(kBlockWords, bytes / kWord - word);
    sum += static_cast<uint64_t>(cblas_sasum(static_cast<blasint>(count), words + word, 1));
  }
  return sum;
}

void Consumer::write(std::byte* begin, int64_t bytes) {
  auto* words = reinterpret_cast<volatile float*>(begin);
  for (int64_t i = 0; i < bytes / kWord; ++i) words[i] = words[i];
}

}  // namespace preserve
