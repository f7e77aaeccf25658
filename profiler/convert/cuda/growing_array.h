// SPDX-License-Identifier: Apache-2.0
// An array of plain records for millions of them: a small one lies in memory, a large one in a
// temporary file that is mapped, of which memory holds only what was looked at last. Passes in
// about the order of the array are fast, jumping about is not. Errors (no room for the file) are
// input_error. References stay good until the next push_back().
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace preserve::cuda {

// Bytes that grow, and keep their contents then.
class SpilledBytes {
 public:
  SpilledBytes() = default;
  ~SpilledBytes();
  SpilledBytes(SpilledBytes&& other) noexcept { swap(other); }
  SpilledBytes& operator=(SpilledBytes&& other) noexcept {
    swap(other);
    return *this;
  }
  // At least `bytes`; where they lie now.
  void* grow(size_t bytes);
  size_t size() const { return bytes_; }
  // Out of memory, where they are in a file.
  void forget() const;

 private:
  void swap(SpilledBytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(file_, other.file_);
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  std::FILE* file_ = nullptr;
};

template <typename T>
class GrowingArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
  template <typename Array, typename Value>
  class Iterator {
   public:
    Iterator(Array* array, size_t at) : array_(array), at_(at) {}
    Value& operator*() const { return (*array_)[at_]; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    Array* array_;
    size_t at_;
  };

 public:
  GrowingArray() = default;
  GrowingArray(GrowingArray&& other) noexcept { swap(other); }
  GrowingArray& operator=(GrowingArray&& other) noexcept {
    swap(other);
    return *this;
  }

  void push_back(const T& value) {
    if (size_ == room_) {
      const T copy = value;  // it may lie in here
      grow(size_ + 1);
      data_[size_++] = copy;
    } else {
      data_[size_++] = value;
    }
    look();
  }
  void append(const T* values, size_t count) {
    if (count > room_ - size_) grow(size_ + count);
    std::memcpy(static_cast<void*>(data_ + size_), values, count * sizeof(T));
    size_ += count;
    look(count);
  }
  // `count` values from the `at`th on, in one piece.
  const T* piece(size_t at, size_t count) const {
    if (count > size_ || at > size_ - count) throw std::out_of_range("GrowingArray::piece");
    look(count);
    return data_ + at;
  }
  // New ones are `value`.
  void resize(size_t size, const T& value) {
    while (size_ < size) push_back(value);
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) {
    look();
    return data_[i];
  }
  const T& operator[](size_t i) const {
    look();
    return data_[i];
  }
  const T& at(size_t i) const {
    if (i >= size_) throw std::out_of_range("GrowingArray::at");
    return (*this)[i];
  }
  const T& front() const { return at(0); }
  const T& back() const { return at(size_ - 1); }
  auto begin() { return Iterator<GrowingArray, T>(this, 0); }
  auto end() { return Iterator<GrowingArray, T>(this, size_); }
  auto begin() const { return Iterator<const GrowingArray, const T>(this, 0); }
  auto end() const { return Iterator<const GrowingArray, const T>(this, size_); }

 private:
  static constexpr size_t kLooks = (size_t{2} << 20) / sizeof(T);
  void look(size_t count = 1) const {
    looks_ += count;
    if (looks_ < kLooks) return;
    bytes_.forget();
    looks_ = 0;
  }
  void swap(GrowingArray& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
  }
  void grow(size_t size) {
    if (size > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    data_ = static_cast<T*>(bytes_.grow(size * sizeof(T)));
    room_ = bytes_.size() / sizeof(T);
  }

  SpilledBytes bytes_;
  T* data_ = nullptr;
  size_t size_ = 0, room_ = 0;
  mutable size_t looks_ = 0;
};

}  // namespace preserve::cuda
