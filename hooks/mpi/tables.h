// SPDX-License-Identifier: Apache-2.0
// The two memories of the MPI wrappers, of fixed size because they live in somebody else's process:
// communicators (handle -> identity) and requests under way. Not synchronised; the caller locks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "profiler/spool.h"

namespace preserve::collector {

class CommunicatorTable {
 public:
  struct Entry {
    const void* handle = nullptr;
    uint64_t members = 0;  // hash of the members
    uint64_t id = 0;       // members and ordinal, positive as a signed number
    uint32_t ranks = 0;
    int64_t collectives = 0;
  };

  Entry* find(const void* handle) {
    for (size_t i = 0; i < size_; ++i) {
      if (entries_[i].handle == handle) return &entries_[i];
    }
    return nullptr;
  }

  // nullptr when the table is full: such a communicator stays unknown.
  Entry* add(const void* handle, uint64_t members, uint32_t ranks) {
    Entry* entry = find(nullptr);  // of a communicator that was freed
    if (entry == nullptr) {
      if (size_ == kEntries) return nullptr;
      entry = &entries_[size_++];
    }
    *entry = {handle, members, mix(members, next_ordinal(members)), ranks, 0};
    return entry;
  }

  void remove(const void* handle) {
    if (handle == nullptr) return;
    if (Entry* entry = find(handle)) *entry = Entry{};
  }

 private:
  static constexpr size_t kEntries = 512;

  // How many communicators with these members were created before. Creation is collective, so the
  // count is the same on all of them.
  uint64_t next_ordinal(uint64_t members) {
    for (size_t i = 0; i < groups_; ++i) {
      if (ordinals_[i].members == members) return ordinals_[i].created++;
    }
    if (groups_ < kEntries) ordinals_[groups_++] = {members, 1};
    return 0;
  }
  static uint64_t mix(uint64_t members, uint64_t ordinal) {
    uint64_t x = members + ordinal * 0x9e3779b97f4a7c15;  // splitmix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x = (x ^ (x >> 31)) & INT64_MAX;
    return x == 0 ? 1 : x;
  }

  struct Ordinal {
    uint64_t members, created;
  };
  Entry entries_[kEntries];
  Ordinal ordinals_[kEntries] = {};
  size_t size_ = 0, groups_ = 0;
};

// Requests by handle, one each: a handle that is used again has lost its old meaning (its request
// was freed, or completed where nobody looked), and what was known of it is forgotten.
class RequestTable {
 public:
  struct TypeName {
    char text[64] = {};
    uint8_t bytes = 0;
    TypeName() = default;
    TypeName(const char* name, size_t length) {
      bytes = static_cast<uint8_t>(length < sizeof(text) ? length : sizeof(text));
      std::memcpy(text, name, bytes);
    }
    std::string_view view() const { return {text, bytes}; }
  };
  struct Pending {
    spool::MpiBody body{};
    uint64_t start_ticks = 0;
    TypeName type_name{};
  };

  // May be asked without the lock: a request that this thread is about to wait for was added
  // before.
  bool empty() const { return used_.load(std::memory_order_relaxed) == 0; }

  // Number of the newest request. A Wait asks before it begins: what completes in it is not newer,
  // even when another thread got the same handle meanwhile. Needs no lock either.
  uint64_t newest() const { return newest_.load(std::memory_order_relaxed); }

  bool add(const void* handle, const Pending& pending) {
    if (nodes_ == nullptr) {  // 2.5 MiB, in programs that use non-blocking calls
      nodes_ = static_cast<Node*>(std::calloc(kNodes, sizeof(Node)));
      if (nodes_ == nullptr) return false;
      for (uint32_t i = 1; i < kNodes; ++i) nodes_[i].next = i + 1 < kNodes ? i + 1 : 0;
      free_ = 1;
    }
    Pending forgotten;
    take(handle, newest(), &forgotten);
    const uint32_t node = free_;
    if (node == 0) return false;
    free_ = nodes_[node].next;
    nodes_[node].handle = handle;
    nodes_[node].number = newest() + 1;
    nodes_[node].pending = pending;
    nodes_[node].next = buckets_[bucket(handle)];
    buckets_[bucket(handle)] = node;
    newest_.store(nodes_[node].number, std::memory_order_relaxed);
    used_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }

  // False when there is none under this handle, or a newer one than `newest`.
  bool take(const void* handle, uint64_t newest, Pending* pending) {
    for (uint32_t* link = &buckets_[bucket(handle)]; *link != 0; link = &nodes_[*link].next) {
      const uint32_t node = *link;
      if (nodes_[node].handle != handle) continue;
      if (nodes_[node].number > newest) return false;
      *pending = nodes_[node].pending;
      *link = nodes_[node].next;
      nodes_[node].next = free_;
      free_ = node;
      used_.fetch_sub(1, std::memory_order_relaxed);
      return true;
    }
    return false;
  }

 private:
  static constexpr uint32_t kNodes = 16384;  // requests under way at once; node 0 is none
  static constexpr size_t kBuckets = 4096;
  struct Node {
    const void* handle;
    uint64_t number;
    uint32_t next;
    Pending pending;
  };
  static size_t bucket(const void* handle) {
    return (reinterpret_cast<uintptr_t>(handle) * 0x9e3779b97f4a7c15) >> 52;
  }

  Node* nodes_ = nullptr;
  uint32_t free_ = 0;
  uint32_t buckets_[kBuckets] = {};
  std::atomic<uint32_t> used_{0};
  std::atomic<uint64_t> newest_{0};
};

}  // namespace preserve::collector
