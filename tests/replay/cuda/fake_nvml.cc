// SPDX-License-Identifier: Apache-2.0
// A libnvidia-ml.so.1 with one GPU, busy and held down by its power limit. It has no function for
// temperatures.
#include <cstring>

#include "tests/support/stub.h"

namespace {
int gpu = 0;
constexpr int kSuccess = 0, kNotFound = 6, kInsufficientSize = 7;
struct Process {
  unsigned pid;
  unsigned long long memory_bytes;
  unsigned gpu_instance, compute_instance;
};
}  // namespace

extern "C" {
int fake_nvml_busy_looks = 1000;  // how often it is still busy; a test's to set

STUB(int nvmlInit_v2(), kSuccess)
STUB(int nvmlShutdown(), kSuccess)
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** device) {
  if (std::strcmp(bus, "0000:3b:00.0") != 0) return kNotFound;
  *device = &gpu;
  return kSuccess;
}
STUB(int nvmlSystemGetDriverVersion(char* text, unsigned bytes),
     std::strncpy(text, "580.159.04", bytes), kSuccess)
STUB(int nvmlDeviceGetClockInfo(void*, int type, unsigned* mhz), *mhz = type == 1 ? 1755 : 2619,
     kSuccess)
int nvmlDeviceGetUtilizationRates(void*, unsigned* percents) {
  percents[0] = fake_nvml_busy_looks-- > 0 ? 97 : 4;
  percents[1] = 40;
  return kSuccess;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, Process* processes) {
  constexpr unsigned kProcesses = 70;  // more than one asks for at first
  const unsigned room = *count;
  *count = kProcesses;
  if (room < kProcesses) return kInsufficientSize;
  for (unsigned i = 0; i < kProcesses; ++i) processes[i] = {1000 + i, 1 << 20, 0, 0};
  return kSuccess;
}
STUB(int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons),
     *reasons = 0x1 | 0x4 | 0x20, kSuccess)
STUB(int nvmlDeviceGetMigMode(void*, unsigned* current, unsigned* pending), *current = *pending = 1,
     kSuccess)
STUB(int nvmlDeviceGetMaxPcieLinkGeneration(void*, unsigned* generation), *generation = 5, kSuccess)
STUB(int nvmlDeviceGetMaxPcieLinkWidth(void*, unsigned* lanes), *lanes = 16, kSuccess)
}
