// SPDX-License-Identifier: Apache-2.0
// Which of Winograd's ways a convolution goes.

#if SKNET_VEC > 1
// winograd() in the way that suits; pack(lanes, ...) packs blocks of as many lanes.
template <typename Pack, typename Emitter>
static bool run_winograd(const ConvShape& s, const PackedWeights& home, const WinogradSource& source, Pack&& pack,
                         Emitter&& emitter) {
  auto packing = [&](auto lanes) {
    return [&pack, lanes](int64_t group, int64_t first, int64_t c, int64_t count, float* to) {
      pack(lanes, group, first, c, count, to);
    };
  };
  constexpr std::integral_constant<int64_t, kVec> one{};
  constexpr std::integral_constant<int64_t, 2 * kVec> two{};
#ifdef SKNET_AMX
  if (suits_winograd_tiles(s)) {
    return suits_winograd_blocks(s) ? winograd_blocks(plan_winograd_blocks(s), home, source, packing(two), emitter)
                                    : winograd_tiles(plan_winograd_tiles(s), home, source, packing(two), emitter);
  }
#endif
  if (s.c_out / s.groups % (2 * kVec) == 0) return winograd(plan_winograd<2>(s), home, source, packing(two), emitter);
  return winograd(plan_winograd<1>(s), home, source, packing(one), emitter);
}
#endif
