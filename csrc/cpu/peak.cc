// SPDX-License-Identifier: Apache-2.0
#include "cpu/peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cpu/threads.h"
#include "sknet_ops/ops.h"

namespace sknet_ops::cpu {

namespace scalar {
extern const PeakLoops kPeakLoops;
}
#if defined(__x86_64__)
namespace avx2 {
extern const PeakLoops kPeakLoops;
}
namespace avx512 {
extern const PeakLoops kPeakLoops;
}
#ifdef SKNET_HAS_AMX
namespace amx {
extern const PeakLoops kPeakLoops;
}
#endif
#elif defined(__aarch64__)
namespace neon {
extern const PeakLoops kPeakLoops;
}
#endif

namespace {

constexpr int kRuns = 7;
constexpr int64_t kPieces = 4;  // a thread; so that one that starts late costs little

const PeakLoops& loops() {
  switch (active_isa()) {
#if defined(__x86_64__)
    case Isa::kAvx2: return avx2::kPeakLoops;
    case Isa::kAvx512: return avx512::kPeakLoops;
#ifdef SKNET_HAS_AMX
    case Isa::kAmx: return amx::kPeakLoops;  // of vectors, as the others
#endif
#elif defined(__aarch64__)
    case Isa::kNeon: return neon::kPeakLoops;
#endif
    default: return scalar::kPeakLoops;
  }
}

template <typename Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Work {
  const PeakLoops& loops;
  int64_t rounds = 0;
  float *a = nullptr, *b = nullptr, *c = nullptr;
  int64_t floats = 0, pieces = 1;
  std::vector<float> sink{};  // one a piece
};

void multiply_add_piece(void* context, int64_t piece, int) {
  Work& work = *static_cast<Work*>(context);
  work.sink[static_cast<size_t>(piece)] = work.loops.multiply_add(work.rounds);
}

void triad_piece(void* context, int64_t piece, int) {
  Work& work = *static_cast<Work*>(context);
  const int64_t begin = work.floats * piece / work.pieces, end = work.floats * (piece + 1) / work.pieces;
  work.sink[static_cast<size_t>(piece)] = work.loops.triad(work.a + begin, work.b + begin, work.c + begin, end - begin);
}

// Shortest time of `fn` over all pieces.
double best(Work& work, TaskFn fn) {
  double least = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    least = std::min(least, seconds([&] { run_tasks(work.pieces, fn, &work); }));
  }
  return least;
}

}  // namespace

double peak_flops() {
  const OpScope scope;
  Work work{loops()};
  work.pieces = kPieces * workers();
  work.sink.resize(static_cast<size_t>(work.pieces));
  work.rounds = 1000;
  const double once = seconds([&] { multiply_add_piece(&work, 0, 0); });
  work.rounds = std::max<int64_t>(1000, static_cast<int64_t>(1000 * 0.005 / std::max(once, 1e-9)));  // some 5 ms
  const double time = best(work, multiply_add_piece);
  return work.loops.flops_per_round * static_cast<double>(work.rounds * work.pieces) / time;
}

double peak_bandwidth(int64_t floats) {
  const OpScope scope;
  Work work{loops()};
  work.floats = floats;
  work.pieces = kPieces * workers();
  work.sink.resize(static_cast<size_t>(work.pieces));
  std::vector<float> memory(static_cast<size_t>(3 * floats), 1.0f);
  work.a = memory.data();
  work.b = work.a + floats;
  work.c = work.b + floats;
  return 12.0 * static_cast<double>(floats) / best(work, triad_piece);
}

}  // namespace sknet_ops::cpu
