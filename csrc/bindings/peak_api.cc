// SPDX-License-Identifier: Apache-2.0
// Plain C, for ctypes: the machine's limits as the suite's and the profile's roofline. -1 if they cannot be measured.
#include <exception>

#include "cpu/peak.h"
#include "sknet_ops/ops.h"

extern "C" {

// Floating-point operations a second.
SKNET_OPS_API double sknet_ops_peak_flops() {
  try {
    return sknet_ops::cpu::peak_flops();
  } catch (const std::exception&) {
    return -1;
  }
}

// Bytes a second, over three arrays of `floats` each.
SKNET_OPS_API double sknet_ops_peak_bandwidth(long long floats) {
  if (floats < 1) return -1;
  try {
    return sknet_ops::cpu::peak_bandwidth(floats);
  } catch (const std::exception&) {
    return -1;
  }
}

}  // extern "C"
