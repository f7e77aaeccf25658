// SPDX-License-Identifier: Apache-2.0
// NCCL's profiler plugin interface, versions 3 to 5, as far as it is used here: our own
// declarations of the published ABI (github.com/NVIDIA/nccl,
// src/include/plugin/profiler/profiler_v3.h to _v5.h; NCCL 2.26 to 2.28). NCCL loads what
// NCCL_PROFILER_PLUGIN names and takes the newest table it knows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace preserve::hooks::nccl {

inline constexpr int kSuccess = 0;
inline constexpr uint64_t kCollective = 1 << 1,
                          kPointToPoint = 1 << 2;  // event types, also mask bits

struct CollectiveV5 {
  uint64_t sequence;
  const char* function;
  const void* send;
  void* receive;
  size_t count;
  int root;
  const char* datatype;
  uint8_t channels, warps;
  const char* algorithm;
  const char* protocol;
};
struct PointToPointV5 {
  const char* function;
  void* buffer;
  const char* datatype;
  size_t count;
  int peer;
  uint8_t channels;
};
struct EventV5 {
  uint64_t type;
  void* parent;
  int rank;
  union {
    CollectiveV5 collective;
    PointToPointV5 point_to_point;
  };
};
struct EventV4 {  // the same but for the width of the type
  uint8_t type;
  void* parent;
  int rank;
  union {
    CollectiveV5 collective;
    PointToPointV5 point_to_point;
  };
};
struct CollectiveV3 {
  const char* name;
  uint64_t communicator;
  CollectiveV5 call;
};
struct PointToPointV3 {
  const char* name;
  uint64_t communicator;
  PointToPointV5 call;  // without the channels at its end
};
struct EventV3 {
  uint8_t type;
  void* parent;
  int rank;
  union {
    CollectiveV3 collective;
    PointToPointV3 point_to_point;
  };
};

template <typename Init, typename Event>
struct Table {
  const char* name;
  Init init;
  int (*start_event)(void* context, void** handle, Event* event);
  int (*stop_event)(void* handle);
  int (*record_state)(void* handle, int state, void* arguments);
  int (*finalize)(void* context);
};
using Log = void (*)(int level, unsigned long flags, const char* file, int line, const char* format,
                     ...);
using TableV5 = Table<int (*)(void** context, uint64_t communicator, int* mask, const char* name,
                              int nodes, int ranks, int rank, Log log),
                      EventV5>;
using TableV4 = Table<int (*)(void** context, int* mask, const char* name, uint64_t communicator,
                              int nodes, int ranks, int rank, Log log),
                      EventV4>;
using TableV3 = Table<int (*)(void** context, int* mask), EventV3>;

}  // namespace preserve::hooks::nccl
