// SPDX-License-Identifier: Apache-2.0
#include "common/job_launcher.h"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "common/child_process.h"
#include "common/foreground_child.h"

namespace preserve {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPreload = "LD_PRELOAD";
constexpr uintmax_t kMostHostFileBytes = 1 << 20;

// Where the launcher's own words end: at the program, which is a path, or does not follow an option
// whose value it could be.
size_t end_of_options(const std::vector<std::string>& command) {
  for (size_t i = 1; i < command.size(); ++i) {
    if (command[i].starts_with("-")) continue;
    const bool may_be_value = command[i - 1].starts_with("-") && i > 1;
    if (may_be_value && command[i].find('/') == std::string::npos) continue;
    std::error_code error;
    if (fs::is_regular_file(command[i], error)
            ? ::access(command[i].c_str(), X_OK) == 0
            : !may_be_value && find_program(command[i]).code == 0) {
      return i;
    }
  }
  return command.size();
}

bool any_in(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(
      words, [text](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

bool passes(const std::vector<std::string>& command, std::string_view option,
            std::string_view name) {
  for (size_t i = 1; i + 1 < command.size(); ++i) {
    const std::string_view value = command[i + 1];
    if (command[i] == option && value.substr(0, value.find('=')) == name) return true;
  }
  return false;
}

// -x NAME for each program of the job, between which stands a colon.
std::vector<std::string> for_open_mpi(std::vector<std::string> command,
                                      const Variables& variables) {
  // mpirun takes one of both ways. What runs on this host has them from its environment.
  if (!environment_variable("OMPI_MCA_mca_base_env_list").empty() ||
      std::ranges::find(command, "mca_base_env_list") != command.end()) {
    return command;
  }
  std::vector<std::string> options;
  for (const auto& [name, value] : variables) {
    if (!passes(command, "-x", name)) options.insert(options.end(), {"-x", name});
    if (name != kPreload) continue;
    const std::string own = fmt::format("{}=", kPreload);
    for (size_t i = 1; i + 1 < command.size(); ++i) {
      if (command[i] == "-x" && command[i + 1].starts_with(own)) {
        command[i + 1] = fmt::format("{}{}:{}", own, value, command[i + 1].substr(own.size()));
      }
    }
  }
  for (size_t i = command.size(); i-- > 0;) {
    if (i == 0 || command[i] == ":") {
      command.insert(command.begin() + static_cast<std::ptrdiff_t>(i) + 1, options.begin(),
                     options.end());
    }
  }
  return command;
}

// It passes on everything unless it was told otherwise; values that are given count in any case.
std::vector<std::string> for_hydra(std::vector<std::string> command, const Variables& variables) {
  std::vector<std::string> options;
  for (const auto& [name, value] : variables) {
    options.insert(options.end(), {"-genv", name, value});
    if (name != kPreload) continue;
    for (size_t i = 1; i + 2 < command.size(); ++i) {
      if ((command[i] == "-genv" || command[i] == "-env") && command[i + 1] == kPreload) {
        command[i + 2] = fmt::format("{}:{}", value, command[i + 2]);
      }
    }
  }
  const bool given = passes(command, "-genv", kPreload);
  if (given) {  // the last one counts, and ours would be before it: the rest of ours has no rival
    const auto preload = std::ranges::find(options, kPreload);
    if (preload != options.end()) options.erase(preload - 1, preload + 2);
  }
  command.insert(command.begin() + 1, options.begin(), options.end());
  return command;
}

// The list of --export with ours: names, and a value where the list has one to be put in front of.
std::string exported(const std::string& listed, const Variables& variables) {
  std::vector<std::string> words;
  bool all = false;
  std::istringstream list(listed);
  for (std::string word; std::getline(list, word, ',');) {
    all = all || word == "ALL";
    if (word != "NONE" && word != "NIL" && !word.empty()) words.push_back(word);
  }
  for (const auto& given : variables) {
    const std::string& name = given.first;
    const auto own = std::ranges::find_if(
        words, [&](const std::string& word) { return word.substr(0, word.find('=')) == name; });
    if (own == words.end()) {
      if (!all) words.push_back(name);
    } else if (own->size() > name.size() + 1) {
      *own = fmt::format("{}={}{}", name, given.second,
                         name == kPreload ? ":" + own->substr(name.size() + 1) : "");
    }
  }
  return fmt::format("{}", fmt::join(words, ","));
}

// Likewise, unless --export or its variable lists something else.
std::vector<std::string> for_slurm(std::vector<std::string> command, const Variables& variables) {
  constexpr std::string_view kExport = "--export";
  const size_t end = end_of_options(command);
  for (size_t i = 1; i < end; ++i) {
    if (command[i].starts_with(fmt::format("{}=", kExport))) {
      const std::string listed = command[i].substr(kExport.size() + 1);
      command[i] = fmt::format("{}={}", kExport, exported(listed, variables));
      return command;
    }
    if (command[i] == kExport && i + 1 < command.size()) {
      command[i + 1] = exported(command[i + 1], variables);
      return command;
    }
  }
  if (const std::string listed = environment_variable("SLURM_EXPORT_ENV"); !listed.empty()) {
    command.insert(command.begin() + 1, fmt::format("{}={}", kExport, exported(listed, variables)));
  }
  return command;
}

// "a:4,b slots=2" -> a, b.
void add_hosts(std::string_view list, std::vector<std::string>& hosts) {
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    std::string_view host = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    host = host.substr(0, host.find_first_of(": \t"));
    if (!host.empty() && std::ranges::find(hosts, host) == hosts.end()) {
      hosts.emplace_back(host);
    }
  }
}

void add_hosts_of_file(const std::string& name, std::vector<std::string>& hosts) {
  std::error_code error;  // a pipe's content is somebody else's
  if (!fs::is_regular_file(name, error) || fs::file_size(name, error) > kMostHostFileBytes) return;
  std::ifstream file(name);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string host;
    if (words >> host) add_hosts(host, hosts);
  }
}

}  // namespace

JobLauncher job_launcher(const std::string& program) {
  const std::string name = fs::path(program).filename().string();
  std::error_code error;
  const std::string path = find_program(program).path;
  const fs::path file = fs::canonical(path, error);
  const std::string real = error ? name : file.filename().string();
  if (name == "srun") return JobLauncher::slurm;
  const std::array launchers{"mpirun", "mpiexec", "orterun", "prterun", "mpiexec.hydra"};
  const bool known = std::ranges::any_of(launchers, [&](std::string_view each) {
    return name == each || name.starts_with(fmt::format("{}.", each));
  });
  if (!known) return JobLauncher::none;
  if (any_in(real, {"orterun", "prterun", "openmpi"})) return JobLauncher::open_mpi;
  if (any_in(real, {"hydra", "mpich"})) return JobLauncher::hydra;
  const std::string version = run_child_quietly({path, "--version"}).out;
  if (any_in(version, {"Open MPI", "OpenRTE", "PRRTE"})) return JobLauncher::open_mpi;
  if (any_in(version, {"HYDRA", "Hydra", "Intel(R) MPI"})) return JobLauncher::hydra;
  return JobLauncher::none;
}

std::vector<std::string> passing_on(std::vector<std::string> command, JobLauncher launcher,
                                    const Variables& variables) {
  if (launcher == JobLauncher::open_mpi) return for_open_mpi(std::move(command), variables);
  if (launcher == JobLauncher::hydra) return for_hydra(std::move(command), variables);
  if (launcher == JobLauncher::slurm) return for_slurm(std::move(command), variables);
  return command;
}

std::vector<std::string> named_hosts(const std::vector<std::string>& command) {
  std::vector<std::string> hosts;
  const size_t end = std::min(end_of_options(command), command.empty() ? 0 : command.size() - 1);
  for (size_t i = 1; i < end; ++i) {
    const std::string& option = command[i];
    const auto is = [&option](std::initializer_list<std::string_view> names) {
      return std::ranges::find(names, option) != names.end();
    };
    if (is({"-H", "-host", "--host", "-hosts"})) add_hosts(command[i + 1], hosts);
    if (is({"-hostfile", "--hostfile", "-machinefile", "--machinefile", "-f"})) {
      add_hosts_of_file(command[i + 1], hosts);
    }
  }
  if (!hosts.empty()) return hosts;
  for (const char* name : {"OMPI_MCA_orte_default_hostfile", "PRTE_MCA_prte_default_hostfile",
                           "HYDRA_HOST_FILE", "PBS_NODEFILE", "PE_HOSTFILE"}) {
    add_hosts_of_file(environment_variable(name), hosts);
  }
  return hosts;
}

bool on_several_hosts(JobLauncher launcher, const std::vector<std::string>& command) {
  if (launcher == JobLauncher::none) return false;
  const std::string nodes = environment_variable("SLURM_JOB_NUM_NODES");
  return launcher == JobLauncher::slurm || (!nodes.empty() && nodes != "1") ||
         named_hosts(command).size() > 1;
}

}  // namespace preserve
