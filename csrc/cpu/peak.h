// SPDX-License-Identifier: Apache-2.0
// The machine's own limits, measured with the instruction set and the threads that the next op would take.
#pragma once

#include <cstdint>

namespace sknet_ops::cpu {

// The loops, one set per instruction set (kernel/peak.h).
struct PeakLoops {
  float (*multiply_add)(int64_t rounds);
  float (*triad)(float* a, const float* b, const float* c, int64_t count);
  double flops_per_round;  // of multiply_add
};

// Floating-point operations a second of multiply-adds on registers. The best of several runs.
double peak_flops();

// Bytes a second of a[i] = b[i] + s * c[i] over arrays of `floats` each, three transfers an element (what the write
// fetches first is not counted, as is usual). The best of several runs. Throws std::bad_alloc.
double peak_bandwidth(int64_t floats);

}  // namespace sknet_ops::cpu
