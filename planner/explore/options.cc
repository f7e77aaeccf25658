// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/options.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

constexpr int kMostThreads = 1024;

}  // namespace

void define_options(CLI::App& app, ExploreOptions& options) {
  app.add_option("--figure", options.figure,
                 "A figure of the PRESERVE paper, as text on standard output; see below")
      ->type_name("NAME");
  app.add_option("--sweep", options.sweeps,
                 "What to vary, or to set for all cells; may be repeated. Values separated by "
                 "commas, FROM:TO:log2 or FROM:TO:+STEP; see below")
      ->type_name("KEY=VALUES")
      ->take_all();
  const auto add = [&](const char* name, std::vector<std::string>& words, const char* help) {
    app.add_option(name, words, help)->type_name("VALUES")->delimiter(',')->take_all();
  };
  add("--model", options.models, "Short for --sweep model=");
  add("--device", options.devices, "Short for --sweep device=");
  add("--dtype", options.dtypes, "Short for --sweep dtype=");
  add("--tp", options.ranks, "Short for --sweep tp= [4]");
  add("--batch", options.batches, "Short for --sweep batch= [4]");
  add("--context", options.contexts, "Short for --sweep context= [16K]");
  app.add_option("--area", options.area,
                 "Constants of area and cost: a file, or a name from examples/area; adds area and "
                 "cost to each cell [without, but for the figure design: n7]")
      ->type_name("FILE|NAME");
  app.add_option("--collectives", options.collectives,
                 "Library whose collectives of the device files are taken [the first of each file]")
      ->type_name("LIBRARY");
  app.add_flag("--whole-context", options.whole_context,
               "Let attention read the whole context where the model has a window");
  app.add_flag("--search", options.search,
               "Search for better plans than the flow's optimum, as preserve-tune does, with all "
               "layers: about a hundred times slower");
  app.add_option("-o,--output", options.outputs,
                 "Where to write, may be repeated: *.db (the same command resumes it), *.csv, "
                 "*.json, - for CSV on standard output [-, but for a figure its text]")
      ->type_name("FILE")
      ->take_all();
  app.add_flag("-f,--force", options.force, "Replace existing outputs, begin a *.db anew");
  app.add_option("-j,--threads", options.threads, "Of each rank [all cores, shared by its ranks]")
      ->check(CLI::Range(1, kMostThreads))
      ->type_name("N");
}

std::string keys_and_figures() {
  std::string text = "Keys of --sweep:\n";
  for (const KeyInfo& info : sweep_keys()) {
    text += fmt::format("  {:<18} {}\n", info.name, info.meaning);
  }
  text += "Figures:\n";
  for (const Figure& figure : figures()) {
    text += fmt::format("  {:<18} {}\n", figure.name, figure.meaning);
  }
  return text;
}

ExploreOutputs outputs_of(const ExploreOptions& options) {
  ExploreOutputs outputs;
  for (const std::string& name : options.outputs) {
    const std::string suffix = std::filesystem::path(name).extension().string();
    std::string* place = nullptr;
    if (suffix == ".db") place = &outputs.db;
    if (suffix == ".csv" || name == "-") place = &outputs.csv;
    if (suffix == ".json") place = &outputs.json;
    if (place == nullptr) {
      throw usage_error("-o {}: expected a name that ends in .db, .csv or .json, or -",
                        printable(name));
    }
    if (!place->empty()) throw usage_error("-o {} and {}: one of a kind", *place, name);
    *place = name;
  }
  if (options.outputs.empty() && options.figure.empty()) outputs.csv = "-";
  return outputs;
}

std::vector<SweepAxis> stated_axes(const ExploreOptions& options) {
  std::vector<SweepAxis> axes;
  const auto add = [&](SweepAxis axis) {
    const bool twice =
        std::ranges::any_of(axes, [&](const SweepAxis& other) { return other.key == axis.key; });
    if (twice) throw usage_error("{}= is given twice", info_of(axis.key).name);
    axes.push_back(std::move(axis));
  };
  for (const std::string& text : options.sweeps) add(parse_axis(text));
  for (const auto& [key, words] :
       {std::pair(SweepKey::model, &options.models), std::pair(SweepKey::device, &options.devices),
        std::pair(SweepKey::dtype, &options.dtypes), std::pair(SweepKey::tp, &options.ranks),
        std::pair(SweepKey::batch, &options.batches),
        std::pair(SweepKey::context, &options.contexts)}) {
    if (!words->empty()) add(parse_axis(key, fmt::format("{}", fmt::join(*words, ","))));
  }
  return axes;
}

std::vector<SweepSheet> sheets_of(const std::vector<SweepAxis>& stated, const Figure* figure) {
  std::vector<SweepSheet> sheets{{"sweep"}};
  if (figure != nullptr) sheets = figure->sheets();
  const auto is_network = [](SweepKey key) {
    return key == SweepKey::network_latency || key == SweepKey::network_bandwidth;
  };
  for (SweepSheet& sheet : sheets) {
    for (const SweepAxis& axis : stated) {
      // One way of saying how long collectives last replaces the other of the figure.
      if (axis.key == SweepKey::allreduce && figure != nullptr) {
        std::erase_if(sheet.axes, [&](const SweepAxis& other) { return is_network(other.key); });
      } else if (is_network(axis.key) && figure != nullptr) {
        std::erase_if(sheet.axes,
                      [](const SweepAxis& other) { return other.key == SweepKey::allreduce; });
      }
    }
    for (const SweepAxis& axis : stated) sheet.set(axis);
  }
  return sheets;
}

}  // namespace preserve
