// SPDX-License-Identifier: Apache-2.0
// Owners of what CUDA hands out.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "common/no_copy.h"

namespace preserve::cuda {

// Device memory, freed with this. input_error saying how much was asked for and how much is free.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(size_t bytes);
  DeviceMemory(DeviceMemory&& other) noexcept : address_(std::exchange(other.address_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(address_, other.address_);
    return *this;
  }
  ~DeviceMemory();

  void* get() const { return address_; }
  template <typename T>
  T* at(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(address_) + offset);
  }

 private:
  void* address_ = nullptr;
};

// Page-locked host memory that kernels write to.
class MappedMemory : NoCopy {
 public:
  MappedMemory() = default;
  explicit MappedMemory(size_t bytes);
  ~MappedMemory();
  void* device() const { return device_; }

 private:
  void* host_ = nullptr;
  void* device_ = nullptr;
};

class Stream : NoCopy {
 public:
  Stream();
  ~Stream();
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(bool timed);
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event();
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace preserve::cuda
