// SPDX-License-Identifier: Apache-2.0
// A program that does what its arguments say, in their order (script.h). What it prints is the same
// in every run, so any difference under a profiler is the profiler's. Knows nothing of Preserve.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "script.h"

void say(const char* format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof(line) - 1, format, arguments);
  va_end(arguments);
  line[length] = '\n';
  (void)!write(1, line, (size_t)length + 1);
}

void sleep_ms(int milliseconds) {
  const struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  struct timespec left = time;
  while (nanosleep(&left, &left) != 0) {
  }
}

static const struct Action* find(const struct Action* table, const char* word, size_t length) {
  for (; table->name; ++table) {
    if (strlen(table->name) == length && strncmp(table->name, word, length) == 0) return table;
  }
  return NULL;
}

static char** closing_bracket(char** at, char** end) {
  int depth = 0;
  for (; at < end; ++at) {
    if (strcmp(*at, "[") == 0) ++depth;
    if (strcmp(*at, "]") == 0 && --depth == 0) return at;
  }
  fprintf(stderr, "scripted_program: a bracket is not closed\n");
  _exit(2);
}

void run_block(struct Block block) {
  for (char** at = block.begin; at < block.end; ++at) {
    const char* word = *at;
    const size_t length = strcspn(word, ":");
    const struct Action* action = find(kProcessActions, word, length);
    if (!action) action = find(kStateActions, word, length);
    if (!action) {
      fprintf(stderr, "scripted_program: unknown action %s\n", word);
      _exit(2);
    }
    struct Block inner = {NULL, NULL};
    if (at + 1 < block.end && strcmp(at[1], "[") == 0) {
      inner.begin = at + 2;
      inner.end = at = closing_bracket(at + 1, block.end);
    }
    action->perform(word[length] == ':' ? word + length + 1 : "", inner);
  }
}

int main(int argc, char** argv) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  run_block((struct Block){argv + 1, argv + argc});
  return 0;
}
