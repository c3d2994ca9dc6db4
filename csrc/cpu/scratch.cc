// SPDX-License-Identifier: Apache-2.0
#include "cpu/scratch.h"

#include <vector>

#include "cpu/memory.h"
#include "cpu/threads.h"

namespace sknet_ops::cpu {
namespace {

GrowingFloats g_shared[static_cast<int>(Shared::kCount)];
std::vector<GrowingFloats> g_local[static_cast<int>(Local::kCount)];

}  // namespace

float* shared_scratch(Shared slot, int64_t floats) { return g_shared[static_cast<int>(slot)].at_least(floats); }

void reserve_local(Local slot, int64_t floats) {
  auto& blocks = g_local[static_cast<int>(slot)];
  if (blocks.size() < static_cast<size_t>(workers())) blocks.resize(workers());
  for (int i = 0; i < workers(); ++i) blocks[i].at_least(floats);
}

float* local_scratch(Local slot, int worker) { return g_local[static_cast<int>(slot)][worker].data(); }

}  // namespace sknet_ops::cpu
