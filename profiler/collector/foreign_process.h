// SPDX-License-Identifier: Apache-2.0
// The collector's threads in a process that is not its own, and how they notice that it ends.
#pragma once

namespace preserve::collector {

// A statically linked program that loads the collector has a C library of its own: the one that
// comes with the collector was never set up, and to start a thread in it would crash.
bool is_static_program();

// Moves a descriptor out of the way of programs that count on low numbers, to kHighDescriptor or
// above, or to the highest free number where the limit is lower. Keeps its number when none is
// free.
inline constexpr int kHighDescriptor = 200;
int move_up(int descriptor);
// Begins a thread that takes no signal of the program.
bool start_thread(const char* name, void* (*body)(void*));
void leave_thread();  // of start_thread(), by itself before it ends while the program goes on
// Of the process that is running now: its threads are counted anew.
void begin_process();
// Before a fork that goes on in the child.
void leave_process();

// Whether every thread but those of start_thread() has ended. The process would stay for as long as
// one of these lives, so they end then, each through before_end(). if_unknown: what to say where
// /proc is gone.
bool program_has_ended(bool if_unknown);
// Gives the calling thread the program's signal mask: the C library runs the program's exit
// handlers on the last thread that ends.
void* before_end();
// Writes of the collector on a thread of the program, once no other is left: not ended by SIGXFSZ.
void without_signals(void (*work)());

}  // namespace preserve::collector
