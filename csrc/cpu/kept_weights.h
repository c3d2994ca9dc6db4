// SPDX-License-Identifier: Apache-2.0
// Packed weights that an op keeps from call to call, for a layer whose weights do not change any more.
// Only for use under OpScope.
#pragma once

#include <cstdint>

#include "sknet_ops/ops.h"

namespace sknet_ops {

struct KeptWeights {
  struct Slot {
    uint64_t key = 0;  // of what `data` holds
    float* data = nullptr;
    int64_t floats = 0;
  };
  // One for all branches in the plain way; one a branch in Winograd's way or 1x1 on tiles; one a branch for taps on
  // tiles, which small batches of a shape may take and large ones not.
  Slot slots[2 * kMaxBranches + 1];
};

namespace cpu {

// Tells packed forms apart: starts from what the layout depends on, and takes in one weight tensor after the other:
// its address and a sample of its values, so that other weights are noticed even if nobody said so.
uint64_t mixed_key(uint64_t key, uint64_t with);
uint64_t weight_key(uint64_t key, const float* weight, int64_t floats);

// Memory of `floats` floats, 64-byte aligned. *stale: it does not hold the form of `key` and is to be filled with it.
// Throws std::bad_alloc.
float* kept_weights(KeptWeights* kept, int slot, uint64_t key, int64_t floats, bool* stale);

}  // namespace cpu
}  // namespace sknet_ops
