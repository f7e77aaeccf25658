// SPDX-License-Identifier: Apache-2.0
// Plays NCCL to the profiler plugin that NCCL_PROFILER_PLUGIN names: one communicator of 8 ranks,
// an allreduce and a send, in the interface version of the first argument; NULL parents and
// handles, events after the end. Declared here once more, so that the layout is checked against a
// second reading.
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

// NOLINTBEGIN(readability-identifier-naming): members are named as in NCCL's headers.
struct CollV5 {
  uint64_t seq;
  const char* func;
  void const* send;
  void* recv;
  size_t count;
  int root;
  const char* datatype;
  uint8_t nChannels, nWarps;
  const char *algo, *proto;
  void* parentGroup;
};
struct P2pV5 {
  const char* func;
  void* buff;
  const char* datatype;
  size_t count;
  int peer;
  uint8_t nChannels;
  void* parentGroup;
};
struct V5 {
  uint64_t type;
  void* parent;
  int rank;
  union {
    CollV5 coll;
    P2pV5 p2p;
    char room[512];
  };
};
struct V4 {
  uint8_t type;
  void* parent;
  int rank;
  CollV5 coll;
};
struct V3 {
  uint8_t type;
  void* parent;
  int rank;
  struct {
    const char* name;
    uint64_t commHash, seq;
    const char* func;
    void const* send;
    void* recv;
    size_t count;
    int root;
    const char* datatype;
    uint8_t nMaxChannels, nWarps;
    const char *algo, *proto;
  } coll;
};
// NOLINTEND(readability-identifier-naming)
struct Table {
  const char* name;
  void* init;
  int (*start)(void*, void**, void*);
  int (*stop)(void*);
  int (*state)(void*, int, void*);
  int (*finalize)(void*);
};

template <typename Event>
void set(Event& event) {
  event.type = 2;
  event.coll.seq = 41;
  event.coll.func = "AllReduce";
  event.coll.count = 4096;
  event.coll.datatype = "ncclBfloat16";
  event.coll.algo = "RING";
  event.coll.proto = nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string version = argc > 1 ? argv[1] : "5";
  const char* path = std::getenv("NCCL_PROFILER_PLUGIN");
  void* plugin = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  auto* table =
      plugin == nullptr
          ? nullptr
          : static_cast<const Table*>(dlsym(plugin, ("ncclProfiler_v" + version).c_str()));
  if (table == nullptr) return 9;
  void *context = nullptr, *handle = &context;
  int mask = 0;
  if (version == "5") {
    reinterpret_cast<int (*)(void**, uint64_t, int*, const char*, int, int, int, void*)>(
        table->init)(&context, 0xc0ffee, &mask, "tp", 1, 8, 3, nullptr);
  } else if (version == "4") {
    reinterpret_cast<int (*)(void**, int*, const char*, uint64_t, int, int, int, void*)>(
        table->init)(&context, &mask, nullptr, 0xc0ffee, 1, 8, 3, nullptr);
  } else {
    reinterpret_cast<int (*)(void**, int*)>(table->init)(&context, &mask);
  }
  if ((mask & 2) == 0) return 8;
  V5 v5{};
  V4 v4{};
  V3 v3{};
  set(v5);
  set(v4);
  set(v3);
  v3.coll.commHash = 0xc0ffee;
  void* event = version == "5"   ? static_cast<void*>(&v5)
                : version == "4" ? static_cast<void*>(&v4)
                                 : &v3;
  table->start(context, &handle, event);
  table->state(handle, 1, nullptr);
  table->stop(handle);
  if (version == "5") {
    v5.type = 4;
    v5.p2p = {"Send", nullptr, "ncclFloat32", 10, 5, 1, nullptr};
    table->start(context, &handle, &v5);
    v5.type = 1;  // a group: not asked for
    table->start(context, &handle, &v5);
  }
  table->finalize(context);
  set(v5);
  if (version == "5") table->start(context, nullptr, &v5);
  return 0;
}
