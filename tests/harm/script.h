// SPDX-License-Identifier: Apache-2.0
// What the files of scripted_program share. A script is the argument vector itself: a word is
// ACTION or ACTION:ARGUMENT, and "[" ... "]" after it is its block, as in: nvtx fork [ nvtx exit:3
// ] exit:0
#pragma once

struct Block {
  char** begin;
  char** end;  // one past the last word
};

// argument is "" when the word has none.
typedef void (*Perform)(const char* argument, struct Block block);
struct Action {
  const char* name;
  Perform perform;
};
// Each table ends with {0, 0}.
extern const struct Action kProcessActions[];  // fork, exec, threads, signals, ways to end
extern const struct Action kStateActions[];    // NVTX, descriptors, limits, privileges, sandboxes

// Runs every word. Ends the process with code 2 at a word that it does not know.
void run_block(struct Block block);
// One line to standard output with one write().
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
// A harmless use of NVTX: "", "mark", "range", "string", "domain", "schema" or "hot" (20000
// ranges); any other word is the name of a range.
void use_nvtx(const char* kind);
void sleep_ms(int milliseconds);
