// SPDX-License-Identifier: Apache-2.0
// Scratch memory that grows and is kept: no allocation once an op has run with its largest shape.
// Only for use under OpScope. 64-byte aligned, contents undefined.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sknet_ops::cpu {

enum class Shared : int {
  kWeights,
  kPlanes,
  kPlanesB,
  kPlanesC,
  kBranches,
  kStats,
  kSmall,
  kRecompute,
  kSums,
  kTurnedX,
  kTurnedZ,
  kStrips,
  kTransformed,
  kCount
};
enum class Local : int { kPlanes, kPlanesB, kTile, kRow, kSums, kHeld, kCount };

// Memory seen by all workers. Throws std::bad_alloc.
float* shared_scratch(Shared slot, int64_t floats);
// Memory of each worker of the running op: reserve on the calling thread (throws std::bad_alloc), then use in tasks.
void reserve_local(Local slot, int64_t floats);
float* local_scratch(Local slot, int worker);

}  // namespace sknet_ops::cpu
