// SPDX-License-Identifier: Apache-2.0
#include "cpu/scratch.h"

#include <cstdlib>
#include <vector>

#include "cpu/memory.h"
#include "cpu/threads.h"

namespace sknet_ops::cpu {
namespace {

struct Block {
  float* data = nullptr;
  int64_t floats = 0;

  float* at_least(int64_t wanted) {
    if (wanted > floats) {
      std::free(data);
      data = nullptr;
      floats = 0;
      data = allocate_floats(&wanted);
      floats = wanted;
    }
    return data;
  }
};

Block g_shared[static_cast<int>(Shared::kCount)];
std::vector<Block> g_local[static_cast<int>(Local::kCount)];

}  // namespace

float* shared_scratch(Shared slot, int64_t floats) { return g_shared[static_cast<int>(slot)].at_least(floats); }

void reserve_local(Local slot, int64_t floats) {
  auto& blocks = g_local[static_cast<int>(slot)];
  if (blocks.size() < static_cast<size_t>(workers())) blocks.resize(workers());
  for (int i = 0; i < workers(); ++i) blocks[i].at_least(floats);
}

float* local_scratch(Local slot, int worker) { return g_local[static_cast<int>(slot)][worker].data; }

}  // namespace sknet_ops::cpu
