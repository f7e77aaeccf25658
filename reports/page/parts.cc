// SPDX-License-Identifier: Apache-2.0
#include "reports/page/parts.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>
#include <cmath>

#include "common/error.h"
#include "common/units.h"
#include "reports/text.h"

namespace preserve {
extern const std::string_view kReportPage;
extern const std::string_view kReportScript;
extern const std::string_view kReportStyle;
}  // namespace preserve

namespace preserve::report {
namespace {

// Replaces {{name}}; the template is ours, so a name that is missing is a defect.
void fill(std::string& page, std::string_view name, std::string_view value) {
  const std::string mark = fmt::format("{{{{{}}}}}", name);
  const size_t at = page.find(mark);
  if (at == std::string::npos) throw internal_error("page.html has no {}", mark);
  page.replace(at, mark.size(), value);
}

// Names exactly this text to a Content-Security-Policy: nothing else of the page may run.
std::string csp_hash(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::array<unsigned char, 4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1> base64{};
  EVP_EncodeBlock(base64.data(), digest.data(), SHA256_DIGEST_LENGTH);
  return fmt::format("sha256-{}", reinterpret_cast<const char*>(base64.data()));
}

const char* class_of(Column kind) {
  switch (kind) {
    case Column::number:
      return " class=\"n\"";
    case Column::wide:
      return " class=\"w\"";
    case Column::text:
      return "";
  }
  return "";
}

}  // namespace

HtmlTable::HtmlTable(std::string_view caption, std::vector<Head> heads) : heads_(std::move(heads)) {
  out_ = fmt::format("<table><caption>{}</caption><thead><tr>", escape_html(caption));
  for (const Head& head : heads_) {
    out_ +=
        fmt::format("<th scope=\"col\"{}>{}</th>", class_of(head.kind), escape_html(head.title));
  }
  out_ += "</tr></thead><tbody>\n";
}

void HtmlTable::row(const std::vector<std::string>& cells, std::string_view id) {
  out_ += id.empty() ? "<tr>" : fmt::format("<tr id=\"{}\">", id);
  for (size_t i = 0; i < cells.size(); ++i) {
    const char* css_class = class_of(heads_.at(i).kind);
    out_ += i == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", css_class, cells[i])
                   : fmt::format("<td{}>{}</td>", css_class, cells[i]);
  }
  out_ += "</tr>\n";
  ++rows_;
}

std::string HtmlTable::finish() {
  constexpr size_t kMostInPlace = 24;
  return fmt::format("<div class=\"scroll{}\">{}</tbody></table></div>\n",
                     rows_ > kMostInPlace ? " tall" : "", out_);
}

std::string html_name(std::string_view name) {
  constexpr size_t kShown = 60;
  const std::string shown = shorten(name, kShown);
  if (shown == name) return fmt::format("<span class=\"name\">{}</span>", escape_html(name));
  return fmt::format("<span class=\"name\" title=\"{}\">{}</span>", escape_html(name),
                     escape_html(shown));
}

std::string html_signed_time(int64_t dur_ns) {
  return fmt::format("{}{}", dur_ns < 0 ? "\u2212" : "+",
                     format_duration(std::fabs(static_cast<double>(dur_ns))));
}

std::string html_percent(double share) {
  return fmt::format("{:.1f} %", share * 100);
}

std::string html_unknown(std::string_view reason) {
  return fmt::format("<span class=\"unknown\">unknown: {}</span>", escape_html(reason));
}

std::string html_how(std::string_view two_sentences) {
  return fmt::format("<p class=\"how\"><b>How to read this.</b> {}</p>\n",
                     escape_html(two_sentences));
}

std::string html_folded(std::string_view summary, std::string_view html) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", escape_html(summary), html);
}

std::string html_section(std::string_view id, std::string_view title) {
  return fmt::format("<h2 id=\"{}\">{}{}</h2>\n", id, escape_html(title), html_definition_link(id));
}

std::string html_card(std::string_view css_class, std::string_view sentence) {
  return fmt::format("<p class=\"card {} verdict\">{}</p>\n", css_class, escape_html(sentence));
}

std::string html_warning_list(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string out = "<div class=\"alert\" id=\"warnings\"><b>Warnings.</b><ul>\n";
  for (const std::string& warning : warnings) {
    out += fmt::format("<li>{}</li>\n", escape_html(warning));
  }
  return out + "</ul></div>\n";
}

std::string html_more(size_t rows, size_t shown, std::string_view nouns) {
  if (rows <= shown) return "";
  return fmt::format("<p>{} more {} are in the JSON report.</p>\n", rows - shown, nouns);
}

std::string html_page(std::string_view title, std::string_view body, std::string_view json) {
  std::string page(kReportPage);
  // Text from files comes last, so that a {{mark}} in it is never looked for.
  fill(page, "version", PRESERVE_VERSION);
  fill(page, "style-hash", csp_hash(kReportStyle));
  fill(page, "script-hash", csp_hash(kReportScript));
  fill(page, "style", kReportStyle);
  fill(page, "script", kReportScript);
  fill(page, "title", title);
  fill(page, "definitions", html_definitions());
  fill(page, "data", escape_script_json(json));
  fill(page, "body", body);
  return page;
}

}  // namespace preserve::report
