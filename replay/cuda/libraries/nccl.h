// SPDX-License-Identifier: Apache-2.0
// NCCL, found at run time: PRESERVE_NCCL, PyTorch's wheels, the toolkit, the system.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "common/no_copy.h"

namespace preserve::cuda {

class Nccl : NoCopy {
 public:
  Nccl();  // loads nothing yet
  ~Nccl();

  // All throw input_error when NCCL is missing, naming where it was looked for.
  std::string make_id();
  void join(const std::string& id, int rank, int ranks);
  int version();  // as 22809

  // Bytes that send and receive buffer need. function, bytes: as in trace.db (bytes: what one rank
  // sends; of a reduce_scatter what it receives). input_error for a function that has no stand.
  struct Buffers {
    int64_t send_bytes = 0, receive_bytes = 0;
  };
  Buffers buffers(const std::string& function, int64_t message_bytes) const;
  void enqueue(const std::string& function, int64_t message_bytes, const void* send, void* receive,
               cudaStream_t stream);

 private:
  struct Functions;
  Functions& need();
  std::unique_ptr<Functions> functions_;
  int ranks_ = 0;  // 0: not joined
};

}  // namespace preserve::cuda
