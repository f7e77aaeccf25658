// SPDX-License-Identifier: Apache-2.0
// A CUPTI without a GPU: a shared library with the functions that the collector looks up, and the
// controls below, with which a test program plays CUDA. FAKE_CUPTI in the environment makes it
// fail:
//   version=N     its version (130001 without)
//   subscribe=N   cuptiSubscribe returns N (39: another subscriber, named nsys by _v2)
//   enable=N      cuptiActivityEnable returns N
//   copies=N      cuptiActivityEnable returns N for copies
//   initialize=N  cuptiProfilerInitialize returns N
//   counters=N    cuptiRangeProfilerEnable returns N (35: no permission)
//   configure=N   cuptiRangeProfilerSetConfig returns N
//   decode=N      cuptiRangeProfilerDecodeData returns N
//   room=N        the counter image takes N ranges, whatever was asked for
//   range_bytes=N it needs N bytes per range
//   (FAKE_CHIP names the chip: UNKNOWN, NODRAM, TWOPASS, else one that can count everything)
// Aborts when its activity buffers are flushed after its own end (exit handlers in the wrong
// order).
#pragma once

#include <cstdint>

extern "C" {
// A launch of `name` on this thread: callbacks, and an activity record unless it is captured.
void fake_launch(const char* name, uint64_t function, void** parameters);
// Where launches run, and for how long; on any device but the first (0) while its last kernel ran.
extern uint32_t fake_device;
extern uint64_t fake_kernel_ns;
void fake_capture(int begin);
// Clones the captured nodes; launching runs all of them under one correlation id.
void fake_instantiate();
void fake_graph_launch();
void fake_allocate(uint64_t address, uint64_t bytes);
void fake_device_appears(const char* name);
void fake_incomplete_record();  // as a forced flush may hand out
void fake_profiler(int start);
void fake_fatal(const char* message);
void fake_warning(const char* message);
void fake_destroy_context();
void fake_driver_ready();                    // the callback at the end of cuInit
void fake_second_parameter(uint64_t bytes);  // of every kernel
// From now on flushes wait, until `step` returns true.
void fake_hold_flushes(bool (*step)());
// What the tool did.
int fake_kernels_enabled();
int fake_enabled(int kind);  // CUpti_ActivityKind
int fake_has_timestamp_callback();
int fake_hardware_trace();    // 1: asked for when the driver was ready, -1: too early
uint64_t fake_flushes();      // calls of cuptiActivityFlushAll
int fake_counting_objects();  // of the host functions and the range profiler, not given back
int fake_counting_sessions();
}
