// SPDX-License-Identifier: Apache-2.0
// STUB(int f(int* x), *x = 3, 0): a function of a foreign C interface that is one expression.
#pragma once

#define STUB(declaration, ...) \
  declaration {                \
    return __VA_ARGS__;        \
  }
