// SPDX-License-Identifier: Apache-2.0
// The collector's core in a program of its own, so that sanitizers see it: threads that are born
// and die while the writer flushes, handing rings to each other. Arguments: threads, records of
// each.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "profiler/collector/recorder.h"

namespace {

using namespace preserve;
using namespace preserve::collector;

void record(int records) {
  for (int i = 0; i < records; ++i) {
    ThreadLog* log = this_thread(kNvtx);
    constexpr size_t kBytes = sizeof(spool::RecordHeader) + 8;
    char* out = log == nullptr ? nullptr : begin_record(*log, kNvtx, kBytes);
    if (out == nullptr) continue;
    const spool::RecordHeader head = header(spool::RecordType::mark, kBytes, 8, 0);
    std::memcpy(out, &head, sizeof(head));
    constexpr std::string_view kName = "recorded";
    std::memcpy(out + sizeof(head), kName.data(), kName.size());
    end_record(*log, kBytes);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  constexpr int kAtOnce = 4;
  // The writer looks at the rings all the time, not only when one is half full.
  std::atomic<bool> done{false};
  std::thread waker([&done] {
    while (!done.load()) {
      wake_writer();
      std::this_thread::yield();
    }
  });
  for (int born = 0; born < std::atoi(argv[1]); born += kAtOnce) {
    std::vector<std::thread> threads;
    threads.reserve(kAtOnce);
    for (int i = 0; i < kAtOnce; ++i) threads.emplace_back(record, std::atoi(argv[2]));
    for (std::thread& thread : threads) thread.join();
  }
  done.store(true);
  waker.join();
  return 0;
}
