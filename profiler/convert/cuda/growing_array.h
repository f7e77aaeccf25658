// SPDX-License-Identifier: Apache-2.0
// An array that grows in place: the memory of a large one is moved by the kernel's page tables, not
// copied, so that growing needs no second copy. For millions of plain records.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace preserve::cuda {

template <typename T>
class GrowingArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  GrowingArray() = default;
  ~GrowingArray() { std::free(data_); }
  GrowingArray(GrowingArray&& other) noexcept { swap(other); }
  GrowingArray& operator=(GrowingArray&& other) noexcept {
    swap(other);
    return *this;
  }

  void push_back(const T& value) {
    if (size_ == room_) {
      const T copy = value;  // it may lie in here
      grow();
      data_[size_++] = copy;
    } else {
      data_[size_++] = value;
    }
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  const T& at(size_t i) const {
    if (i >= size_) throw std::out_of_range("GrowingArray::at");
    return data_[i];
  }
  const T& front() const { return at(0); }
  const T& back() const { return at(size_ - 1); }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  void swap(GrowingArray& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
  }
  void grow() {
    const size_t room = room_ == 0 ? 64 : room_ * 2;
    if (room > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    void* data = std::realloc(static_cast<void*>(data_), room * sizeof(T));
    if (data == nullptr) throw std::bad_alloc();
    data_ = static_cast<T*>(data);
    room_ = room;
  }

  T* data_ = nullptr;
  size_t size_ = 0, room_ = 0;
};

}  // namespace preserve::cuda
