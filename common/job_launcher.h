// SPDX-License-Identifier: Apache-2.0
// What a command is when it starts a parallel program on several hosts: how it passes
// environment variables on, and which hosts it names.
#pragma once

#include <string>
#include <vector>

#include "common/environment.h"

namespace preserve {

enum class JobLauncher { none, open_mpi, hydra, slurm };

// Of the command's program, by its name and, where that may be several, by what it says of its
// version. Hydra is the one of MPICH, Intel MPI and MVAPICH.
JobLauncher job_launcher(const std::string& program);

// The command with what makes `variables` reach the ranks on every host. A value that the command
// gives LD_PRELOAD itself stays behind ours.
std::vector<std::string> passing_on(std::vector<std::string> command, JobLauncher launcher,
                                    const Variables& variables);

// Hosts that the command, a file that it names or, without either, the variables of the launcher or
// the batch system list; empty: this one alone, or not known.
std::vector<std::string> named_hosts(const std::vector<std::string>& command);

// Whether its ranks may be on other hosts, which hardly ever see this one's folder for temporary
// files, and often that of its outputs.
bool on_several_hosts(JobLauncher launcher, const std::vector<std::string>& command);

}  // namespace preserve
