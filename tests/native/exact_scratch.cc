// SPDX-License-Identifier: Apache-2.0
// Stands in for csrc/cpu/scratch.cc under the sanitizers: blocks of exactly the size asked for, new ones for every op,
// so that what runs over the end, or uses a block that has grown, is seen.
#include <cstdlib>
#include <new>
#include <vector>

#include "cpu/scratch.h"
#include "cpu/threads.h"

namespace sknet_ops::cpu {
namespace {

struct Block {
  float* data = nullptr;
  int64_t floats = -1;

  float* at_least(int64_t wanted) {
    if (wanted > floats) {
      release();
      void* memory = nullptr;
      if (posix_memalign(&memory, 64, wanted * sizeof(float)) != 0) {
        throw std::bad_alloc();
      }
      data = static_cast<float*>(memory);
      floats = wanted;
    }
    return data;
  }

  void release() {
    std::free(data);
    data = nullptr;
    floats = -1;
  }
};

Block shared[static_cast<int>(Shared::kCount)];
std::vector<Block> local[static_cast<int>(Local::kCount)];

}  // namespace

float* shared_scratch(Shared slot, int64_t floats) { return shared[static_cast<int>(slot)].at_least(floats); }

void reserve_local(Local slot, int64_t floats) {
  auto& blocks = local[static_cast<int>(slot)];
  if (blocks.size() < static_cast<size_t>(workers())) {
    blocks.resize(workers());
  }
  for (Block& block : blocks) {
    block.at_least(floats);
  }
}

float* local_scratch(Local slot, int worker) { return local[static_cast<int>(slot)].at(worker).data; }

}  // namespace sknet_ops::cpu

void release_scratch() {
  using namespace sknet_ops::cpu;
  for (Block& block : shared) {
    block.release();
  }
  for (auto& blocks : local) {
    for (Block& block : blocks) {
      block.release();
    }
    blocks.clear();
  }
}
