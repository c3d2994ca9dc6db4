// SPDX-License-Identifier: Apache-2.0
#include "cuda/emu/emu.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

EmuDim threadIdx, blockIdx, blockDim, gridDim;

namespace sknet_ops::cuda {
namespace emu {
namespace {

constexpr size_t kStackBytes = 256 << 10, kMaxThreads = 1024, kExchangeBytes = 64;
constexpr size_t kWatchedWords = 64;      // behind the shared memory
constexpr uint32_t kPoison = 0x7fc0dead;  // a NaN

enum class State { kReady, kAtWarp, kAtBlock, kDone };

struct Fiber {
  std::unique_ptr<char[]> stack;
  ucontext_t context;
  jmp_buf jump;
  bool started = false;
  State state = State::kDone;
};

struct Machine {
  std::mutex one_launch;
  std::vector<Fiber> fibers = std::vector<Fiber>(kMaxThreads);
  jmp_buf scheduler;
  unsigned current = 0;
  const std::function<void()>* body = nullptr;
  int code = 0;
  std::vector<uint32_t> shared;
  alignas(16) char exchanged[2][kMaxThreads][kExchangeBytes];
  unsigned phase[kMaxThreads] = {};  // alternates, so that a fast lane does not overwrite what a slow one still reads
};

Machine& machine() {
  static Machine* m = new Machine;
  return *m;
}

void pause_as(State state) {
  Machine& m = machine();
  Fiber& fiber = m.fibers[m.current];
  fiber.state = state;
  if (_setjmp(fiber.jump) == 0) _longjmp(m.scheduler, 1);
}

void fiber_main() {
  for (;;) {
    (*machine().body)();
    pause_as(State::kDone);
  }
}

void resume(unsigned index) {
  Machine& m = machine();
  m.current = index;
  threadIdx = {index, 0, 0};
  if (_setjmp(m.scheduler) != 0) return;
  Fiber& fiber = m.fibers[index];
  if (fiber.started) _longjmp(fiber.jump, 1);
  fiber.started = true;
  fiber.stack.reset(new char[kStackBytes]);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
  setcontext(&fiber.context);
}

bool reversed() {
  const char* order = std::getenv("SKNET_OPS_EMU_ORDER");
  return order != nullptr && std::strcmp(order, "reverse") == 0;
}

// Runs the fibers of one warp until each is done or at the block's barrier. All lanes, or none, meet at a warp
// operation.
void run_warp(unsigned first, unsigned count, bool reverse) {
  Machine& m = machine();
  for (;;) {
    for (unsigned i = 0; i < count; ++i) {
      const unsigned index = first + (reverse ? count - 1 - i : i);
      if (m.fibers[index].state == State::kReady) resume(index);
    }
    unsigned waiting = 0;
    for (unsigned i = 0; i < count; ++i) waiting += m.fibers[first + i].state == State::kAtWarp;
    if (waiting == 0) return;
    if (waiting != count) throw std::logic_error("emulation: a warp operation that not all lanes reach");
    for (unsigned i = 0; i < count; ++i) m.fibers[first + i].state = State::kReady;
  }
}

void run_block(unsigned threads, bool reverse) {
  Machine& m = machine();
  for (unsigned i = 0; i < threads; ++i) m.fibers[i].state = State::kReady;
  const unsigned warps = (threads + 31) / 32;
  for (;;) {
    for (unsigned w = 0; w < warps; ++w) {
      const unsigned first = (reverse ? warps - 1 - w : w) * 32;
      run_warp(first, std::min(32u, threads - first), reverse);
    }
    unsigned waiting = 0;
    for (unsigned i = 0; i < threads; ++i) waiting += m.fibers[i].state == State::kAtBlock;
    if (waiting == 0) return;
    if (waiting != threads) throw std::logic_error("emulation: a barrier that not all threads reach");
    for (unsigned i = 0; i < threads; ++i) m.fibers[i].state = State::kReady;
  }
}

}  // namespace

void run(const std::function<void()>& body, int code, EmuDim grid, EmuDim block, size_t shared_bytes) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.one_launch);
  if (block.x > kMaxThreads || block.y != 1 || block.z != 1) throw std::logic_error("emulation: block too large");
  m.body = &body;
  m.code = code;
  blockDim = block;
  gridDim = grid;
  const bool reverse = reversed();
  const size_t words = (shared_bytes + 3) / 4, blocks = static_cast<size_t>(grid.x) * grid.y * grid.z;
  for (size_t i = 0; i < blocks; ++i) {
    const size_t b = reverse ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    m.shared.assign(words + kWatchedWords + 4, kPoison);
    run_block(block.x, reverse);
    const uint32_t* end = reinterpret_cast<const uint32_t*>(shared_memory()) + words;
    for (size_t w = 0; w < kWatchedWords; ++w) {
      if (end[w] != kPoison) throw std::logic_error("emulation: a write past the shared memory");
    }
  }
}

const char* exchange(const void* mine, size_t bytes) {
  Machine& m = machine();
  const unsigned index = m.current, side = m.phase[index]++ % 2;
  // Packed, so that the reader can index it as an array of what was left.
  char* warp = m.exchanged[side][index / 32 * 32];
  std::memcpy(warp + index % 32 * bytes, mine, bytes);
  pause_as(State::kAtWarp);
  return warp;
}

float tf32_value(uint32_t word) {
  word &= 0xffffe000u;
  float v;
  std::memcpy(&v, &word, sizeof v);
  return v;
}

}  // namespace emu

float* shared_memory() {
  auto address = reinterpret_cast<uintptr_t>(emu::machine().shared.data());
  return reinterpret_cast<float*>((address + 15) / 16 * 16);
}

void emu::expect_tensor_cores() {
  if (machine().code < 80) throw std::logic_error("emulation: a matrix instruction in code for less than 8.0");
}

void expect_aligned(const void* address, int bytes) {
  if (reinterpret_cast<uintptr_t>(address) % static_cast<unsigned>(bytes) != 0) {
    throw std::logic_error("emulation: an access of " + std::to_string(bytes) + " bytes that is not aligned");
  }
}

float shuffle_xor(float v, int mask) {
  const float* lanes = reinterpret_cast<const float*>(emu::exchange(&v, sizeof v));
  return lanes[(threadIdx.x % 32) ^ static_cast<unsigned>(mask)];
}

double shuffle_xor(double v, int mask) {
  const double* lanes = reinterpret_cast<const double*>(emu::exchange(&v, sizeof v));
  return lanes[(threadIdx.x % 32) ^ static_cast<unsigned>(mask)];
}

void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  emu::expect_tensor_cores();
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) throw std::logic_error("emulation: a matrix row that is not aligned");
  const void* const* rows = reinterpret_cast<const void* const*>(emu::exchange(&row, sizeof row));
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    uint16_t pair[2];
    for (int j = 0; j < 2; ++j) {
      pair[j] = static_cast<const uint16_t*>(rows[i * 8 + lane % 4 * 2 + j])[lane / 4];
    }
    std::memcpy(&r[i], pair, sizeof pair);
  }
}

float to_float(Half v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000) << 16, exponent = v.bits >> 10 & 31,
                 mantissa = v.bits & 1023;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | mantissa << 13;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | mantissa << 13;
  } else {
    const float tiny = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -tiny : tiny;
  }
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

void from_float(float v, Half* to) {  // to nearest, ties to even
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  const float size = std::fabs(v);
  if (std::isnan(v)) {
    to->bits = sign | 0x7e00;
  } else if (size >= 65520.0f) {
    to->bits = sign | 0x7c00;
  } else if (size < 6.103515625e-05f) {
    to->bits = sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24)));
  } else {
    uint32_t bits;
    std::memcpy(&bits, &size, sizeof bits);
    bits += 0xfff + (bits >> 13 & 1);
    to->bits = sign | static_cast<uint16_t>((bits >> 13) - (112 << 10));
  }
}

void from_float(float v, Bfloat* to) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  if (std::isnan(v)) {
    to->bits = static_cast<uint16_t>(bits >> 16 | 0x40);
  } else {
    to->bits = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

}  // namespace sknet_ops::cuda

void __syncthreads() { sknet_ops::cuda::emu::pause_as(sknet_ops::cuda::emu::State::kAtBlock); }
void __syncwarp() {
  char nothing = 0;
  sknet_ops::cuda::emu::exchange(&nothing, 1);
}
