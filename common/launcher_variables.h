// SPDX-License-Identifier: Apache-2.0
// What launchers of ranks say of a process in its environment.
#pragma once

namespace preserve {

struct RankVariables {
  const char *rank, *size;  // nullptr: not in the environment
};

// Open MPI, Hydra, torchrun, srun; PMIx tells the size only to who asks it.
inline constexpr RankVariables kRankVariables[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                   {"PMI_RANK", "PMI_SIZE"},
                                                   {"RANK", "WORLD_SIZE"},
                                                   {"SLURM_PROCID", "SLURM_NTASKS"},
                                                   {"PMIX_RANK", nullptr}};

}  // namespace preserve
