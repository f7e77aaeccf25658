// SPDX-License-Identifier: Apache-2.0
// A program that uses threads, memory and a child, to be compiled with another C library.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void* use_memory(void* unused) {
  char* memory = malloc(1 << 20);
  if (memory != NULL) memset(memory, 1, 1 << 20);
  free(memory);
  return unused;
}

static void at_end(void) {
  puts("end");
}

int main(void) {
  pthread_t threads[4];
  atexit(at_end);
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, use_memory, NULL);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  printf("name %d\n", prctl(PR_SET_NAME, "other", 0, 0, 0));
  fflush(stdout);
  const pid_t child = fork();
  int status = 0;
  if (child == 0) _exit(5);
  waitpid(child, &status, 0);
  printf("child %d\n", WEXITSTATUS(status));
  return 3;
}
