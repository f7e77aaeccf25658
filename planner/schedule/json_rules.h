// SPDX-License-Identifier: Apache-2.0
// A schema compiled for speed: a schedule of a long step holds half a million values, and a general
// validator spends microseconds on each. It only ever says yes: a document that it does not accept,
// or a keyword that it does not know, is a matter for the validator, which also names what is
// wrong.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "common/no_copy.h"

namespace preserve {

class JsonRules : NoCopy {  // rules point at each other
 public:
  // Keeps no reference to `schema`, a draft-07 schema.
  explicit JsonRules(const nlohmann::json& schema);

  // True: `document` satisfies the schema. False: perhaps not.
  bool accepts(const nlohmann::json& document) const;

 private:
  struct Rule;
  struct Member {
    std::string name;
    const Rule* rule;  // nothing: any value
    bool required;
  };
  struct Dependency {
    std::string name;
    std::vector<std::string> needs;
  };
  struct Rule {
    unsigned types;  // bits by json::value_t
    double minimum, maximum, exclusive_minimum;
    size_t min_length, min_items, max_items;
    std::vector<std::string> words;  // any, when empty
    std::optional<std::regex> pattern;
    const Rule* items;  // nothing: any value
    std::vector<const Rule*> all_of;
    std::vector<Member> members;
    std::vector<Dependency> dependencies;
  };

  const Rule* compile(const nlohmann::json& schema, const nlohmann::json& root);
  void add_keyword(const std::string& keyword, const nlohmann::json& value,
                   const nlohmann::json& root, Rule& rule);
  bool accepts(const Rule& rule, const nlohmann::json& value) const;

  bool complete_ = true;                         // every keyword is known
  std::map<const nlohmann::json*, Rule> rules_;  // by their place in the schema
  const Rule* root_;
};

}  // namespace preserve
