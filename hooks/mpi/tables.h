// SPDX-License-Identifier: Apache-2.0
// The two memories of the MPI wrappers, of fixed size because they live in a foreign process:
// communicators (handle -> identity) and requests under way. Not synchronised; the caller locks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "hooks/listener.h"

namespace preserve::hooks {

// A communicator has the same number on all its ranks. It comes from the one that it was made of,
// which had the same number on all ranks, from how many that one had made before (making one is a
// collective call), and from the members; of what nobody saw being made, from the members and how
// many had these members before.
class CommunicatorTable {
 public:
  struct Entry {
    const void* handle = nullptr;
    uint64_t members = 0;  // hash of the members
    uint64_t id = 0;       // positive as a signed number; 0: the ranks cannot agree on one
    uint32_t ranks = 0;
    uint32_t children = 0;
    int64_t collectives = 0;
  };

  Entry* find(const void* handle) {
    for (size_t i = 0; i < size_; ++i) {
      if (entries_[i].handle == handle) return &entries_[i];
    }
    return nullptr;
  }

  // The origin of the next communicator that is made of `parent`; every rank of the parent asks,
  // also one that will not be a member. Never 0.
  static uint64_t next_origin(Entry& parent) { return mix(parent.id, ++parent.children); }
  // The same where only the members ask: `salt` is what else is equal in the calls.
  uint64_t next_origin(uint64_t members, uint64_t salt) {
    return mix(members, next_ordinal(mix(members, salt)));
  }

  // Origin 0: nobody saw it being made. nullptr when the table is full: such a communicator stays
  // unknown.
  Entry* add(const void* handle, uint64_t members, uint32_t ranks, uint64_t origin) {
    Entry* entry = find(nullptr);  // of a communicator that was freed
    if (entry == nullptr) {
      if (size_ == kEntries) return nullptr;
      entry = &entries_[size_++];
    }
    if (origin == 0) origin = next_origin(members, 0);
    *entry = {handle, members, members == 0 ? 0 : mix(members, origin), ranks, 0, 0};
    return entry;
  }

  void remove(const void* handle) {
    if (handle == nullptr) return;
    if (Entry* entry = find(handle)) *entry = Entry{};
  }

 private:
  static constexpr size_t kEntries = 512;

  uint64_t next_ordinal(uint64_t key) {
    for (size_t i = 0; i < keys_; ++i) {
      if (ordinals_[i].key == key) return ordinals_[i].made++;
    }
    if (keys_ < kEntries) ordinals_[keys_++] = {key, 1};
    return 0;
  }
  static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = a + b * 0x9e3779b97f4a7c15;  // splitmix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x = (x ^ (x >> 31)) & INT64_MAX;
    return x == 0 ? 1 : x;
  }

  struct Ordinal {
    uint64_t key, made;
  };
  Entry entries_[kEntries];
  Ordinal ordinals_[kEntries] = {};
  size_t size_ = 0, keys_ = 0;
};

// Requests by handle, one each: a handle that is used again has lost its old meaning (its request
// was freed, or completed where nobody looked), and what was known of it is forgotten.
class RequestTable {
 public:
  struct Pending {
    mpi::Call call{};
    uint64_t mark = 0;  // of the listener
  };

  // May be called without the lock: a request that this thread is about to wait for was added
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

}  // namespace preserve::hooks
