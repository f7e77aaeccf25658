// SPDX-License-Identifier: Apache-2.0
// Names of kernels that communicate between ranks: what they are called in trace.db, and inside the
// profiled process which kernels must not be measured alone, because they wait for other ranks.
// Header-only and without allocation.
#pragma once

#include <string_view>

namespace preserve {

struct CommunicationKernel {
  std::string_view pattern;  // of glob_matches(), over the name in lower case
  bool point_to_point = false;
  const char* function = "";  // empty: unknown which
};

// Order matters: the particular before the general.
inline constexpr CommunicationKernel kCommunicationKernels[] = {
    // NCCL and RCCL. Generic kernels carry several operations: the function stays unknown.
    {"*nccl*sendrecv*", true, "sendrecv"},
    {"*nccl*allreduce*", false, "allreduce"},
    {"*nccl*all_reduce*", false, "allreduce"},
    {"*nccl*reducescatter*", false, "reduce_scatter"},
    {"*nccl*reduce_scatter*", false, "reduce_scatter"},
    {"*nccl*allgather*", false, "allgather"},
    {"*nccl*all_gather*", false, "allgather"},
    {"*nccl*alltoall*", false, "alltoall"},
    {"*nccl*broadcast*", false, "broadcast"},
    {"*nccl*reduce*", false, "reduce"},
    {"*ncclsymk*", false, ""},
    {"*nccl*kernel*", false, ""},
    // Microsoft's MSCCL and MSCCL++, by which RCCL carries out its all-reduces, Intel's oneCCL and
    // Ascend's HCCL. XLA names its operators with dashes.
    {"*msccl*sendrecv*", true, "sendrecv"},
    {"*msccl*allgather*", false, "allgather"},
    {"*msccl*alltoall*", false, "alltoall"},
    {"*msccl*allreduce*", false, "allreduce"},
    {"*msccl*reducescatter*", false, "reduce_scatter"},
    {"*mscclkernel_*", false, "allreduce"},
    {"*msccl*", false, ""},
    {"*oneccl*allreduce*", false, "allreduce"},
    {"*oneccl*reduce_scatter*", false, "reduce_scatter"},
    {"*oneccl*allgather*", false, "allgather"},
    {"*oneccl*alltoall*", false, "alltoall"},
    {"*oneccl*broadcast*", false, "broadcast"},
    {"*oneccl*", false, ""},
    {"hcom_send*", true, "send"},
    {"hcom_recv*", true, "recv"},
    {"hcom_receive*", true, "recv"},
    {"hcom_broadcast*", false, "broadcast"},
    {"hcom_alltoall*", false, "alltoall"},
    {"hcom_allreduce*", false, "allreduce"},
    {"hcom_allgather*", false, "allgather"},
    {"hcom_reducescatter*", false, "reduce_scatter"},
    {"hcom_reduce*", false, "reduce"},
    {"hcom_*", false, ""},
    {"*hccl*allreduce*", false, "allreduce"},
    {"*hccl*reducescatter*", false, "reduce_scatter"},
    {"*hccl*allgather*", false, "allgather"},
    {"*hccl*alltoall*", false, "alltoall"},
    {"*hccl*kernel*", false, ""},
    {"*rccl*allreduce*", false, "allreduce"},
    {"*rccl*reducescatter*", false, "reduce_scatter"},
    {"*rccl*allgather*", false, "allgather"},
    {"*rccl*sendrecv*", true, "sendrecv"},
    {"*rccl*", false, ""},
    {"*all-reduce*", false, "allreduce"},
    {"*all-gather*", false, "allgather"},
    {"*reduce-scatter*", false, "reduce_scatter"},
    {"*all-to-all*", false, "alltoall"},
    {"*collective-broadcast*", false, "broadcast"},
    {"*collective-permute*", true, "sendrecv"},
    // Peer-memory and multicast kernels of engines and libraries; none of them carries metadata.
    {"*cross_device_reduce*", false, "allreduce"},
    {"*multimem_all_reduce*", false, "allreduce"},
    {"*multimem_all_gather*", false, "allgather"},
    {"*multimem_reduce_scatter*", false, "reduce_scatter"},
    {"*one_shot_all_reduce*", false, "allreduce"},
    {"*two_shot_all_reduce*", false, "allreduce"},
    {"*oneshot*allreduce*", false, "allreduce"},
    {"*twoshot*allreduce*", false, "allreduce"},
    {"*allreduceoneshot*", false, "allreduce"},
    {"*allreducetwoshot*", false, "allreduce"},
    {"*allreduce*", false, "allreduce"},
    {"*all_reduce*", false, "allreduce"},
    {"*reducescatter*", false, "reduce_scatter"},
    {"*reduce_scatter*", false, "reduce_scatter"},
    {"*allgather*", false, "allgather"},
    {"*all_gather*", false, "allgather"},
    {"*quickreduce*", false, "allreduce"},
    {"*quick_reduce*", false, "allreduce"},
    {"*moe*alltoall*", false, "alltoall"},
    {"*all_to_all*", false, "alltoall"},
    {"*alltoall*", false, "alltoall"},
    {"*userbuffers_pull*", true, "sendrecv"},
    {"*userbuffers_push*", true, "sendrecv"},
    {"*userbuffers*_ag*", false, "allgather"},
    {"*userbuffers*_rs*", false, "reduce_scatter"},
    {"*userbuffers*sum*", false, "allreduce"},
    {"*userbuffers*", false, ""},
    {"*lamport*", false, "allreduce"},
    {"*a2a*", false, "alltoall"},
    {"*moe_comm::*", false, "alltoall"},
    {"*ep_dispatch*", false, "alltoall"},
    {"*ep_combine*", false, "alltoall"},
    {"*epdispatch*", false, "alltoall"},
    {"*epcombine*", false, "alltoall"},
    {"*deep_ep*dispatch*", false, "alltoall"},
    {"*deep_ep*combine*", false, "alltoall"},
    {"*internode*dispatch*", false, "alltoall"},
    {"*intranode*dispatch*", false, "alltoall"},
    {"*internode*combine*", false, "alltoall"},
    {"*intranode*combine*", false, "alltoall"},
    {"*low_latency_dispatch*", false, "alltoall"},
    {"*low_latency_combine*", false, "alltoall"},
    {"*pplx*dispatch*", false, "alltoall"},
    {"*pplx*combine*", false, "alltoall"},
    {"*symm*mem*barrier*", false, "barrier"},
    {"*nvshmem*barrier*", false, "barrier"},
    {"*nvshmem*", true, "put"},
};

}  // namespace preserve
