// SPDX-License-Identifier: Apache-2.0
#include "apply/library/tensors.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "common/hash.h"
#include "common/no_copy.h"

namespace preserve::apply {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
constexpr int kTries = 1 << 14;

template <typename T>
T* map_array(size_t count) {
  void* memory = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
}

uint64_t hash_of(std::string_view text) {
  const uint64_t hash = fnv_hash(text);
  return hash ^ hash >> 32;
}

// "begin-end rwxp ..."; false when it is none.
struct Mapping {
  uint64_t begin = 0, end = 0;
  bool readable = false;
};
bool parse(std::string_view line, Mapping& mapping) {
  size_t at = 0;
  const auto number = [&](char stop) {
    uint64_t value = 0;
    for (; at < line.size() && line[at] != stop; ++at) {
      const char c = line[at];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
      value = value << 4 | static_cast<uint64_t>(digit & 15);
    }
    ++at;
    return value;
  };
  mapping.begin = number('-');
  mapping.end = number(' ');
  if (at >= line.size() || mapping.end <= mapping.begin) return false;
  mapping.readable = line[at] == 'r';
  return true;
}

}  // namespace

// A signal handler may have interrupted the holder, so waiting has an end.
class Tensors::Lock : NoCopy {
 public:
  Lock(pthread_mutex_t& mutex, bool may_wait) : mutex_(mutex) {
    taken_ = may_wait ? ::pthread_mutex_lock(&mutex) == 0 : try_often();
  }
  ~Lock() {
    if (taken_) ::pthread_mutex_unlock(&mutex_);
  }
  bool taken() const { return taken_; }

 private:
  bool try_often() {
    for (int i = 0; i < kTries; ++i) {
      if (::pthread_mutex_trylock(&mutex_) == 0) return true;
      ::sched_yield();
    }
    return false;
  }
  pthread_mutex_t& mutex_;
  bool taken_ = false;
};

bool Tensors::start(std::span<const PlanTensor> tensors, std::string_view text) {
  planned_ = tensors;
  text_ = text;
  count_ = static_cast<uint32_t>(tensors.size());
  slots_ = 16;
  while (slots_ < 2 * count_) slots_ *= 2;
  tensors_ = map_array<Tensor>(count_ + size_t{1});
  names_ = map_array<uint32_t>(slots_);
  unnamed_ = map_array<Region>(kUnnamed);
  texts_ = map_array<Text>(2 * size_t{count_} + 1);
  buffer_ = map_array<char>(kBufferBytes);
  if (tensors_ == nullptr || names_ == nullptr || unnamed_ == nullptr || texts_ == nullptr ||
      buffer_ == nullptr) {
    return false;
  }
  for (uint32_t i = 0; i < count_; ++i) {
    new (&tensors_[i]) Tensor;
    wants_allocations_ |= tensors[i].kind == TensorKind::allocation;
    uint64_t slot = hash_of(name_of(i)) & (slots_ - 1);
    while (names_[slot] != 0) slot = (slot + 1) & (slots_ - 1);
    names_[slot] = i + 1;
  }
  return true;
}

uint32_t Tensors::find(std::string_view name) const {
  for (uint64_t slot = hash_of(name) & (slots_ - 1); names_[slot] != 0;
       slot = (slot + 1) & (slots_ - 1)) {
    const uint32_t tensor = names_[slot] - 1;
    if (name_of(tensor) == name) return tensor;
  }
  return kNone;
}

void Tensors::define_string(uint64_t id, std::string_view text) {
  const uint32_t tensor = find(text);
  if (tensor == kNone) return;
  const Lock lock(mutex_, true);
  texts_[next_text_] = {id, tensor};
  next_text_ = (next_text_ + 1) % (2 * count_ + 1);
}

void Tensors::add_region(uint64_t id, uint64_t heap, uint64_t base, uint64_t bytes) {
  if (base == 0) return;
  const Lock lock(mutex_, true);
  unnamed_[newest_unnamed_] = {id, heap, base, bytes};
  newest_unnamed_ = (newest_unnamed_ + 1) % kUnnamed;
}

// Regions are mostly named in the order in which they were registered.
Tensors::Region* Tensors::find_unnamed(uint64_t id, uint64_t base) {
  for (uint32_t i = 0; i < kUnnamed; ++i) {
    const uint32_t at = (next_unnamed_ + i) % kUnnamed;
    Region& region = unnamed_[at];
    if (region.base == 0 || (id != 0 ? region.id != id : region.base != base)) continue;
    next_unnamed_ = (at + 1) % kUnnamed;
    return &region;
  }
  return nullptr;
}

void Tensors::name_region(uint64_t id, uint64_t base, uint64_t string, std::string_view text) {
  const Lock lock(mutex_, true);
  uint32_t tensor = kNone;
  if (string == 0) {
    tensor = find(text);
  } else {
    for (uint32_t i = 0; i < 2 * count_ + 1; ++i) {
      if (texts_[i].id == string) tensor = texts_[i].tensor;
    }
  }
  Region* region = find_unnamed(id, base);
  if (region == nullptr) return;
  if (tensor != kNone) {
    Tensor& found = tensors_[tensor];
    forget(found);
    found.id = region->id;
    found.heap = region->heap;
    found.bytes.store(region->bytes, std::memory_order_relaxed);
    found.state.store(TensorState::found, std::memory_order_relaxed);
    found.base.store(region->base);
    widen(region->base, region->base + region->bytes);
    news_.store(true, std::memory_order_relaxed);
  }
  *region = {};
}

void Tensors::widen(uint64_t begin, uint64_t end) {
  least_.store(std::min(least_.load(std::memory_order_relaxed), end - begin),
               std::memory_order_relaxed);
  low_.store(std::min(low_.load(std::memory_order_relaxed), begin), std::memory_order_relaxed);
  high_.store(std::max(high_.load(std::memory_order_relaxed), end), std::memory_order_relaxed);
}

// Caches grow layer by layer with every step, so the one after the last is looked at first.
void Tensors::resize_region(uint64_t base, uint64_t bytes) {
  const Lock lock(mutex_, true);
  for (uint32_t i = 0; i < count_; ++i) {
    const uint32_t at = (next_resized_ + i) % count_;
    Tensor& tensor = tensors_[at];
    if (tensor.base.load(std::memory_order_relaxed) != base) continue;
    tensor.bytes.store(bytes, std::memory_order_relaxed);
    widen(base, base + bytes);
    next_resized_ = (at + 1) % count_;
    return;
  }
}

void Tensors::remove_region(uint64_t id, uint64_t base) {
  const Lock lock(mutex_, true);
  for (uint32_t i = 0; i < count_; ++i) {
    Tensor& tensor = tensors_[i];
    const uint64_t own = tensor.base.load(std::memory_order_relaxed);
    if (own != 0 && (id != 0 ? tensor.id == id : own == base)) return forget(tensor);
  }
  if (Region* region = find_unnamed(id, base)) *region = {};
}

void Tensors::remove_heap(uint64_t heap) {
  const Lock lock(mutex_, true);
  for (uint32_t i = 0; i < count_; ++i) {
    if (tensors_[i].heap == heap) forget(tensors_[i]);
  }
  for (uint32_t i = 0; i < kUnnamed; ++i) {
    if (unnamed_[i].base != 0 && unnamed_[i].heap == heap) unnamed_[i] = {};
  }
}

void Tensors::forget(Tensor& tensor) {
  if (tensor.base.load(std::memory_order_relaxed) == 0) return;
  tensor.base.store(0);
  tensor.mapped.store(0);
  tensor.state.store(TensorState::gone, std::memory_order_relaxed);
  news_.store(true, std::memory_order_relaxed);
  await_reader();
}

// At most one chunk of a fetch. Never for ever: a signal handler may have interrupted the reader.
void Tensors::await_reader() const {
  for (int i = 0; i < kTries && reading_.load(); ++i) ::sched_yield();
}

void Tensors::forget_range(uint64_t begin, uint64_t bytes) {
  const Lock lock(mutex_, false);
  if (!lock.taken()) {
    suspended_.store(true);
    news_.store(true, std::memory_order_relaxed);
    return await_reader();
  }
  for (uint32_t i = 0; i < count_; ++i) {
    Tensor& tensor = tensors_[i];
    const uint64_t base = tensor.base.load(std::memory_order_relaxed);
    if (base == 0 || base >= begin + bytes) continue;
    if (base + tensor.bytes.load(std::memory_order_relaxed) > begin) forget(tensor);
  }
}

void Tensors::check() {
  const Lock lock(mutex_, true);
  news_.store(false, std::memory_order_relaxed);
  suspended_.store(false);
  for (uint32_t i = 0; i < count_; ++i) tensors_[i].mapped.store(0, std::memory_order_relaxed);
  read_maps();
  mapped_ = false;
  for (uint32_t i = 0; i < count_; ++i) {
    Tensor& tensor = tensors_[i];
    if (tensor.base.load(std::memory_order_relaxed) == 0) continue;
    const bool mapped = tensor.mapped.load(std::memory_order_relaxed) > 0;
    tensor.state.store(mapped ? TensorState::found : TensorState::unreadable,
                       std::memory_order_relaxed);
    mapped_ |= mapped;
  }
}

// The kernel lists mappings by ascending address: a tensor in several of them grows with each.
void Tensors::read_maps() {
  const int file = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  size_t kept = 0;
  while (true) {
    const ssize_t got = ::read(file, buffer_ + kept, kBufferBytes - kept);
    if (got <= 0) break;
    const std::string_view text(buffer_, kept + static_cast<size_t>(got));
    size_t begin = 0;
    for (size_t end = text.find('\n'); end != std::string_view::npos;
         end = text.find('\n', begin)) {
      Mapping mapping;
      if (parse(text.substr(begin, end - begin), mapping) && mapping.readable) {
        for (uint32_t i = 0; i < count_; ++i) {
          Tensor& tensor = tensors_[i];
          const uint64_t base = tensor.base.load(std::memory_order_relaxed);
          const uint64_t next = base + tensor.mapped.load(std::memory_order_relaxed);
          if (base != 0 && mapping.begin <= next && next < mapping.end) {
            tensor.mapped.store(mapping.end - base, std::memory_order_relaxed);
          }
        }
      }
      begin = end + 1;
    }
    kept = text.size() - begin;
    if (kept == kBufferBytes) break;  // not a line of this file
    std::memmove(buffer_, buffer_ + begin, kept);
  }
  ::close(file);
}

void Tensors::report(TensorOutcome* outcomes) const {
  for (uint32_t i = 0; i < count_; ++i) {
    outcomes[i].state = tensors_[i].state.load(std::memory_order_relaxed);
    outcomes[i].bytes = tensors_[i].bytes.load(std::memory_order_relaxed);
  }
}

Tensors::Place Tensors::at(uint32_t tensor, uint64_t offset_bytes, uint64_t length_bytes) const {
  const Tensor& found = tensors_[tensor];
  const uint64_t base = found.base.load();
  if (base == 0 || suspended_.load()) return {};
  const uint64_t bytes = std::min(found.bytes.load(std::memory_order_relaxed),
                                  found.mapped.load(std::memory_order_relaxed));
  if (offset_bytes >= bytes) return {};
  return {reinterpret_cast<const std::byte*>(base + offset_bytes),
          std::min(length_bytes, bytes - offset_bytes)};
}

Tensors::Place Tensors::registered(uint32_t tensor) const {
  const Tensor& found = tensors_[tensor];
  const uint64_t base = found.base.load();
  if (base == 0) return {};
  return {reinterpret_cast<const std::byte*>(base), found.bytes.load(std::memory_order_relaxed)};
}

}  // namespace preserve::apply
