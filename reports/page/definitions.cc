// SPDX-License-Identifier: Apache-2.0
// docs/metrics.md in the page, so that each heading can link to what defines its figures.

#include <algorithm>
#include <array>
#include <utility>

#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve {
extern const std::string_view kMetricsText;
}

namespace preserve::report {
namespace {

// Sections of the pages and the chapter that defines them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 23> kChapters{
    {{"timeline", "The recording"},
     {"time", "The recording"},
     {"ranks", "Against an earlier run"},
     {"operators", "The recording"},
     {"collectives", "The recording"},
     {"counters", "The recording"},
     {"environment", "The recording itself"},
     {"why", "Why"},
     {"comparison", "The measurement"},
     {"plan", "The plan"},
     {"cache", "The plan"},
     {"earlier", "Against an earlier run"},
     {"counts", "The recording"},
     {"heat", "The grid"},
     {"findings", "The grid"},
     {"fused", "The grid"},
     {"published", "The grid"},
     {"settings", "The grid"},
     {"cells", "The grid"},
     {"explored", "Explorations"},
     {"maps", "Explorations"},
     {"footprint", "Explorations"},
     {"design", "Explorations"}}};

std::string id_of(std::string_view chapter) {
  std::string id = fmt::format("metrics-{}", chapter);
  std::ranges::replace(id, ' ', '-');
  return id;
}

}  // namespace

std::string html_definition_link(std::string_view section) {
  for (const auto& [id, chapter] : kChapters) {
    if (id != section) continue;
    return fmt::format(" <a class=\"definition\" href=\"#{}\">definitions</a>", id_of(chapter));
  }
  return "";
}

std::string html_definitions() {
  std::string out;
  std::string_view rest = kMetricsText;
  constexpr std::string_view kMark = "\n## ";
  for (size_t at = rest.find(kMark); at != std::string_view::npos; at = rest.find(kMark)) {
    rest.remove_prefix(at + kMark.size());
    const size_t line = rest.find('\n');
    const std::string_view chapter = rest.substr(0, line);
    const std::string_view text = rest.substr(chapter.size(), rest.find(kMark) - chapter.size());
    out += fmt::format("<h3 id=\"{}\">{}</h3>\n<pre>{}</pre>\n", id_of(chapter),
                       escape_html(chapter), escape_html(text));
  }
  return html_section("definitions", "What the numbers mean") + html_folded("Definitions", out);
}

}  // namespace preserve::report
