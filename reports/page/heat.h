// SPDX-License-Identifier: Apache-2.0
// The diverging scale of heat maps: blue above 1, orange below, the same in light, dark and print;
// the number stands in the cell too. Internal to the reports library.
#pragma once

#include <string>

namespace preserve::report {

std::string heat_shade(double ratio);  // class of page.css: "e", "h1".., "l1"..
// `none`: what a cell without a number means.
std::string heat_legend(const std::string& none);

}  // namespace preserve::report
