// SPDX-License-Identifier: Apache-2.0
// What the processor can do at best: the roofline that measured times are compared with.

// Independent chains of multiply-adds: enough to hide their latency, few enough for sixteen registers.
inline constexpr int kPeakChains = 12;
inline constexpr int kPeakUnrolled = 8;

// `rounds` times kPeakUnrolled steps of every chain; returns what keeps the compiler from leaving them out.
static float multiply_add(int64_t rounds) {
  Vec chain[kPeakChains];
  for (int i = 0; i < kPeakChains; ++i) chain[i] = broadcast(static_cast<float>(i));
  const Vec factor = broadcast(0.999f), addend = broadcast(0.001f);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
    for (int step = 0; step < kPeakUnrolled; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kPeakChains; ++i) chain[i] = chain[i] * factor + addend;
    }
  }
  float total = 0;
  for (int i = 0; i < kPeakChains; ++i) total += sum(chain[i]);
  return total;
}

// a[i] = b[i] + factor * c[i]
static float triad(float* a, const float* b, const float* c, int64_t count) {
  const Vec factor = broadcast(0.5f);
  int64_t i = 0;
  for (; i + kVec <= count; i += kVec) store(a + i, load(b + i) + factor * load(c + i));
  for (; i < count; ++i) a[i] = b[i] + 0.5f * c[i];
  return a[0];
}

extern const PeakLoops kPeakLoops;
const PeakLoops kPeakLoops = {multiply_add, triad, 2.0 * kPeakChains * kPeakUnrolled * kVec};
