// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/libraries/nvml.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

namespace preserve::cuda {
namespace {

// The few functions needed, as the NVML API reference documents them (docs.nvidia.com/deploy/
// nvml-api): toolkits come without nvml.h as often as with it. All return 0 for success.
struct Utilisation {
  unsigned gpu_percent, memory_percent;
};
struct Process {  // nvmlProcessInfo_t of the functions named _v3
  unsigned pid;
  unsigned long long memory_bytes;
  unsigned gpu_instance, compute_instance;
};
// Its figure is of the last sixth of a second to a second, as the product has it.
constexpr int kLooks = 20;
constexpr std::chrono::milliseconds kPause{100};
constexpr int kNvmlSuccess = 0;
constexpr int kNvmlInsufficientSize = 7;
constexpr int kSmClock = 1, kMemoryClock = 2;
constexpr int kGpuTemperature = 0;

struct Reason {
  unsigned long long bit;
  const char* text;
};
// Left out: 0x1 idle, which restrains nothing, and 0x2 and 0x100, clocks chosen by a user: the
// same in every sample, and often set for the sake of measuring.
constexpr std::array<Reason, 6> kReasons{{{0x4, "power cap"},
                                          {0x8, "hardware slowdown"},
                                          {0x10, "kept equal with other GPUs"},
                                          {0x20, "too warm"},
                                          {0x40, "too warm (hardware)"},
                                          {0x80, "power brake"}}};

}  // namespace

std::string throttle_text(unsigned long long reasons) {
  std::string text;
  for (const Reason& reason : kReasons) {
    if ((reasons & reason.bit) == 0) continue;
    text += (text.empty() ? "" : ", ") + std::string(reason.text);
  }
  return text;
}

double pcie_bytes_per_s(unsigned generation, unsigned lanes) {
  // Transfers per second of one lane, with what the line code leaves.
  constexpr std::array<double, 7> kLane{0, 0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
  return generation < kLane.size() ? kLane[generation] * lanes : 0;
}

struct Nvml::Functions {
  SharedLibrary library{{.sonames = {"libnvidia-ml.so.1"}, .variable = "", .wheel_folders = {}}};
  int (*init)() = library.need("nvmlInit_v2");
  int (*shutdown)() = library.need("nvmlShutdown");
  int (*by_bus_id)(const char*, void**) = library.need("nvmlDeviceGetHandleByPciBusId_v2");
  // What there is of these is used; drivers drop functions that were long superseded.
  int (*driver)(char*, unsigned) = library.find_any({"nvmlSystemGetDriverVersion"});
  int (*clock)(void*, int, unsigned*) = library.find_any({"nvmlDeviceGetClockInfo"});
  int (*temperature)(void*, int, unsigned*) = library.find_any({"nvmlDeviceGetTemperature"});
  int (*utilisation)(void*, Utilisation*) = library.find_any({"nvmlDeviceGetUtilizationRates"});
  int (*running)(void*, unsigned*,
                 Process*) = library.find_any({"nvmlDeviceGetComputeRunningProcesses_v3"});
  int (*throttle)(void*, unsigned long long*) = library.find_any(
      {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
  int (*mig_mode)(void*, unsigned*, unsigned*) = library.find_any({"nvmlDeviceGetMigMode"});
  int (*generation)(void*, unsigned*) = library.find_any({"nvmlDeviceGetMaxPcieLinkGeneration"});
  int (*lanes)(void*, unsigned*) = library.find_any({"nvmlDeviceGetMaxPcieLinkWidth"});
};

// False also where there is no such function.
template <typename... Parameters, typename... Arguments>
bool succeeds(int (*function)(Parameters...), Arguments... arguments) {
  return function != nullptr && function(arguments...) == kNvmlSuccess;
}

Nvml::Nvml(const std::string& pci_bus_id, std::function<void()> pause)
    : pause_(std::move(pause)), functions_(std::make_unique<Functions>()) {
  if (!pause_) pause_ = [] { std::this_thread::sleep_for(kPause); };
  if (!functions_->library.found() || functions_->init() != kNvmlSuccess) {
    functions_.reset();
    return;
  }
  if (!succeeds(functions_->by_bus_id, pci_bus_id.c_str(), &device_)) device_ = nullptr;
}

Nvml::~Nvml() {
  if (functions_) functions_->shutdown();
}

std::string Nvml::driver() {
  std::array<char, 96> text{};
  const bool known =
      functions_ && succeeds(functions_->driver, text.data(), static_cast<unsigned>(text.size()));
  return known ? text.data() : "";
}

double Nvml::host_link_bytes_per_s() {
  unsigned generation = 0, lanes = 0;
  const bool known = device_ != nullptr && succeeds(functions_->generation, device_, &generation) &&
                     succeeds(functions_->lanes, device_, &lanes);
  return known ? pcie_bytes_per_s(generation, lanes) : 0;
}

bool Nvml::mig() {
  unsigned current = 0, pending = 0;
  return device_ != nullptr && succeeds(functions_->mig_mode, device_, &current, &pending) &&
         current != 0;
}

std::vector<int64_t> Nvml::compute_pids() {
  if (device_ == nullptr || functions_->running == nullptr) return {};
  std::vector<Process> processes(64);
  int result = kNvmlInsufficientSize;
  auto count = static_cast<unsigned>(processes.size());
  for (int attempt = 0; attempt < 3 && result == kNvmlInsufficientSize; ++attempt) {
    processes.resize(std::max<size_t>(processes.size(), count));
    count = static_cast<unsigned>(processes.size());
    result = functions_->running(device_, &count, processes.data());
  }
  std::vector<int64_t> pids;
  if (result != kNvmlSuccess) return pids;
  for (unsigned i = 0; i < count; ++i) pids.push_back(processes[i].pid);
  return pids;
}

std::optional<int> Nvml::busy_percent() {
  Utilisation utilisation{};
  if (!succeeds(functions_->utilisation, device_, &utilisation)) return std::nullopt;
  return static_cast<int>(utilisation.gpu_percent);
}

// What a process of ours did that has just ended is still in the first figure: only others go on.
std::optional<int> Nvml::busy_before() {
  std::optional<int> least = busy_percent();
  for (int look = 1; look < kLooks && least.value_or(0) > kBusyPercent; ++look) {
    pause_();
    least = std::min(*least, busy_percent().value_or(*least));
  }
  return least;
}

GpuState Nvml::state(const std::vector<int64_t>& own_pids) {
  GpuState state;
  if (device_ == nullptr) return state;
  unsigned value = 0;
  if (succeeds(functions_->clock, device_, kSmClock, &value)) {
    state.sm_clock_mhz = static_cast<int>(value);
  }
  if (succeeds(functions_->clock, device_, kMemoryClock, &value)) {
    state.memory_clock_mhz = static_cast<int>(value);
  }
  if (succeeds(functions_->temperature, device_, kGpuTemperature, &value)) {
    state.temperature_c = static_cast<int>(value);
  }
  if (!busy_before_) busy_before_ = busy_before();
  state.utilisation_percent = *busy_before_;
  unsigned long long reasons = 0;
  if (succeeds(functions_->throttle, device_, &reasons)) {
    state.throttle = throttle_text(reasons);
  }
  std::ranges::copy_if(compute_pids(), std::back_inserter(state.other_pids), [&](int64_t pid) {
    return std::ranges::find(own_pids, pid) == own_pids.end();
  });
  return state;
}

}  // namespace preserve::cuda
