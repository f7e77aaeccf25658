// SPDX-License-Identifier: Apache-2.0
// apply.db: the schema of replay.db (docs/formats.md), of the program itself.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apply/run/outcomes.h"

namespace preserve::apply {

// The file is complete when this returns. `meta`: what the launcher knows of the run.
void write_apply_db(const std::filesystem::path& path, const Outcomes& outcomes,
                    const std::vector<Block>& blocks, const ReplayResult& result,
                    const std::map<std::string, std::string>& meta);

}  // namespace preserve::apply
