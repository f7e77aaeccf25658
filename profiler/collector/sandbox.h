// SPDX-License-Identifier: Apache-2.0
// A program that gives up system calls, or the time-stamp counter, while it is recorded: what the
// recorder may still do then. The wrappers in watched_calls.cc ask, before the program's own call.
#pragma once

struct sock_fprog;

namespace preserve::collector {

// What a filter of system calls would end the process for, or make useless.
struct Forbidden {
  bool calls = false;   // those that recording takes on threads of the program
  bool writer = false;  // those of the writer thread
  bool start = false;   // those that begin a recording
  bool clock = false;   // to ask for the time
  bool stack = false;   // to ask for the stack of signal handlers
};
// Nothing is forbidden by what is not a filter.
Forbidden forbidden_by(const sock_fprog* filter);

// The program's threads no longer read the time-stamp counter; the file's clock goes on.
void leave_tsc();
// Before a filter for the calling thread, or for all of them.
void obey(const Forbidden& forbidden, bool all_threads);
// Around a call that only a process of one thread may make.
void pause_writer();
void resume_writer();

}  // namespace preserve::collector
