// SPDX-License-Identifier: Apache-2.0
#include "cpu/kept_weights.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/memory.h"

namespace sknet_ops {
namespace {

constexpr int64_t kSamples = 32;  // a handful of cache misses, where reading all weights is what is to be saved

std::atomic<uint64_t> g_epoch{1};

}  // namespace

KeptWeights* make_kept_weights() { return new KeptWeights; }

void free_kept_weights(KeptWeights* kept) {
  if (kept == nullptr) return;
  for (KeptWeights::Slot& slot : kept->slots) std::free(slot.data);
  delete kept;
}

void forget_kept_weights() { g_epoch.fetch_add(1); }

namespace cpu {

uint64_t mixed_key(uint64_t key, uint64_t with) {
  key = (key ^ with) * 0x9E3779B97F4A7C15u;
  return key ^ (key >> 29);
}

uint64_t weight_key(uint64_t key, const float* weight, int64_t floats) {
  key = mixed_key(key, reinterpret_cast<uintptr_t>(weight));
  for (int64_t i = 0; i < kSamples && floats > 0; ++i) {
    uint32_t bits;
    std::memcpy(&bits, weight + (floats - 1) * i / (kSamples - 1), sizeof bits);
    key = mixed_key(key, bits);
  }
  return key;
}

float* kept_weights(KeptWeights* kept, int slot, uint64_t key, int64_t floats, bool* stale) {
  KeptWeights::Slot& to = kept->slots[slot];
  key = mixed_key(key, g_epoch.load());
  *stale = to.key != key || to.floats != floats;
  if (!*stale) return to.data;
  to.key = 0;
  if (to.floats != floats) {
    std::free(to.data);
    to.data = nullptr, to.floats = 0;
    int64_t room = floats;
    to.data = cpu::allocate_floats(&room);
    to.floats = floats;
  }
  to.key = key;
  return to.data;
}

}  // namespace cpu
}  // namespace sknet_ops
