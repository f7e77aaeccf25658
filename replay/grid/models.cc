// SPDX-License-Identifier: Apache-2.0
#include "replay/grid/models.h"

#include <algorithm>

#include "common/error.h"
#include "common/output_file.h"
#include "common/shipped_folder.h"
#include "common/text.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;

fs::path shipped_models() {
  fs::path folder = shipped_folder("models");
  if (!folder.empty()) return folder;
  throw usage_error(
      "examples/models is not next to the tools: name a folder of model configurations with "
      "--models");
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw usage_error("--models {}: is not a folder", folder.string());
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

bool is_path(const std::string& text) {
  return text.find('/') != std::string::npos || fs::path(text).extension() == ".json";
}

std::string name_of_file(const fs::path& path) {
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.stem() == "config" ? absolute.parent_path().filename().string()
                                     : absolute.stem().string();
}

fs::path file_of(const std::string& wanted, const fs::path& folder) {
  fs::path path = is_path(wanted) ? fs::path(wanted) : folder / (wanted + ".json");
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path;
  if (is_path(wanted)) throw usage_error("models={}: no such file", printable(wanted));
  throw usage_error("models={}: {} has {}", printable(wanted), folder.string(),
                    fmt::join(names_in(folder), ", "));
}

}  // namespace

std::vector<std::string> paper_models() {
  return {"llama3-8b", "llama3-70b", "qwen2-7b", "qwen2-72b", "phi-3-small", "phi-3-medium"};
}

std::vector<GridModel> find_models(const std::vector<std::string>& wanted, const fs::path& folder) {
  std::vector<std::string> words = wanted;
  if (words.empty()) words = folder.empty() ? paper_models() : names_in(folder);
  if (words.empty()) throw usage_error("--models {}: holds no .json file", folder.string());
  const bool needs_folder =
      std::ranges::any_of(words, [](const std::string& word) { return !is_path(word); });
  const fs::path place = folder.empty() && needs_folder ? shipped_models() : folder;
  std::vector<GridModel> models;
  for (const std::string& word : words) {
    const fs::path path = file_of(word, place);
    GridModel model{name_of_file(path), path, sha256_of_file(path)};
    for (const GridModel& other : models) {
      if (other.name != model.name) continue;
      throw usage_error("{} and {} are both called {}: rename one", other.path.string(),
                        model.path.string(), printable(model.name));
    }
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace preserve
