// SPDX-License-Identifier: Apache-2.0
// The owner of the tests' precompiled headers; see preserve_test_headers in
// cmake/PreserveTargets.cmake.
