// SPDX-License-Identifier: Apache-2.0
// The ways to the gradient of a convolution by its input.

// The convolution of stride 1 that makes dx of dz: kernel flipped, channels exchanged.
static inline ConvShape transposed(const ConvShape& s) {
  ConvShape t = s;
  t.c_in = s.c_out, t.c_out = s.c_in, t.h = s.h_out, t.w = s.w_out, t.h_out = s.h, t.w_out = s.w;
  t.padding = s.dilation * (s.kernel - 1) - s.padding;
  return t;
}

// dx of images [n0, n0 + images) from planes of dz (images, branches, c_out), each of `plane` floats in rows of
// `pitch`. False if something was not finite.
static bool input_gradient_fast(const ConvSet& set, int64_t n0, int64_t images, const float* dz, int64_t plane,
                                int64_t pitch, const float* const* weight, float* dx) {
#if SKNET_VEC > 1
  const ConvShape& shape = set.branch[0];
  const int64_t hw_in = shape.h * shape.w;
  for (int m = 0; m < set.branches; ++m) {
    ConvShape t = transposed(set.branch[m]);
    t.n = images;
    const WinogradSource source{dz + m * shape.c_out * plane, set.branches * shape.c_out * plane, plane, pitch, 1};
    auto pack = [&](auto lanes, int64_t group, int64_t first, int64_t co, int64_t count, float* to) {
      constexpr int64_t kLanes = decltype(lanes)::value;
      const float* from = weight[m] + ((group * set.group_out() + co) * set.group_in() + first) * 9;
      for (int64_t c = 0; c < count; ++c, from += set.group_in() * 9, to += 9 * kLanes) {
        kernels_apart<kLanes>(from, to + 8 * kLanes, -kLanes);  // turned round
      }
    };
    auto emit = [&](int64_t n, int64_t c) {
      float* to = dx + ((n0 + n) * set.channels() + set.first_in(m, 0) + c) * hw_in;
      return EmitGradient{to, 1, 0, 0, shape.w, shape.w, m > 0 && !set.split};
    };
    if (!run_winograd(t, PackedWeights{}, source, pack, emit)) return false;
  }
#else
  (void)set, (void)n0, (void)images, (void)dz, (void)plane, (void)pitch, (void)weight, (void)dx;
#endif
  return true;
}

#ifdef SKNET_AMX
// The 1x1 convolution that makes dx of dz, but for its steps over dx.
static inline ConvShape transposed_1x1(const ConvShape& s) {
  ConvShape t = s;
  t.c_in = s.c_out, t.c_out = s.c_in;
  return t;
}

// The same for one 1x1 convolution, on tiles.
static bool input_gradient_tiles(const ConvSet& set, int64_t n0, int64_t images, const float* dz, int64_t plane,
                                 int64_t pitch, const float* weight, float* dx) {
  const ConvShape& s = set.branch[0];
  const int64_t hw = s.h * s.w, strip = strip_floats(s.c_out);
  float* strips = shared_scratch(Shared::kWeights, ceil_div(s.c_in, kStrip) * strip);
  put_turned_weight_strips(weight, s.c_out, s.c_in, strips);
  if (s.stride > 1) parallel(images * s.c_in, [&](int64_t i, int) { fill_zero(dx + (n0 * s.c_in + i) * hw, hw); });
  return tile_convolution(
      {s.h_out, s.w_out, pitch, 1, plane}, images, s.c_out, s.c_in, [&](int64_t n) { return dz + n * s.c_out * plane; },
      [&](int64_t block) { return strips + block * strip; },
      [&](int64_t n, int64_t c) {
        return EmitGradient{dx + ((n0 + n) * s.c_in + c) * hw, s.stride, 0, 0, s.w_out, s.w, false};
      });
}

// dx of a strided convolution of larger kernels: as many convolutions as there are phases.
static bool suits_input_taps(const ConvShape& s) {
  const int64_t group_in = s.c_in / s.groups, group_out = s.c_out / s.groups;
  return s.kernel > 1 && s.stride > 1 && group_out % kTileTerms == 0 && group_in % kStrip == 0 &&
         s.h_out * s.w_out >= kTileSide && s.n * s.h_out * s.w_out >= kStrip &&
         group_out * s.h_out * s.w_out <= kTapFloats;
}

// The same for such ones, on tiles.
static bool input_gradient_taps(const ConvSet& set, const BackwardPlan* back, int64_t n0, int64_t images,
                                const float* dz, int64_t plane, int64_t pitch, const float* const* weight, float* dx) {
  const ConvShape& s = set.branch[0];
  const int64_t hw = s.h * s.w, group_in = set.group_in(), group_out = set.group_out();
  for (int m = 0; m < set.branches; ++m) {
    const PlaneLayout& layout = back[m].layout;
    const TapSet* phases = back[m].phase;
    const TileTaps taps{&layout, phases, static_cast<int>(s.stride * s.stride), s.groups, group_out, group_in};
    const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel, held_plane = phases->h_out * phases->w_out;
    float* strips = shared_scratch(Shared::kWeights, taps.weight_floats() + 1);
    put_tap_strips(taps, weight[m], group_out * group_in * k2, k2, group_in * k2, strips);
    if (s.stride == 2) reserve_local(Local::kHeld, kStrip * held_plane);
    const bool add = m > 0 && !set.split;
    const bool made = tile_taps(
        taps, images, strips, add,
        [&](int64_t n, int64_t c, int worker, float* to) {
          float* row = local_scratch(Local::kRow, worker);
          const float* from = dz + ((n * set.branches + m) * s.c_out + c) * plane;
          unspread_rows(from, s.h_out, s.w_out, pitch, row);
          pad_plane(layout, row, to);
        },
        [&](int f, int64_t n, int64_t c, int worker) {
          float* to = dx + ((n0 + n) * set.channels() + set.first_in(m, 0) + c) * hw;
          return phase_gradient(to, s, back[m], f, add, c % kStrip, worker);
        });
    if (!made) return false;
  }
  return true;
}
#endif

// The same as sums over taps, which every shape suits: by blocks of channels of dx.
class TapInputGradient {
 public:
  TapInputGradient(const ConvSet& set, const BackwardPlan* back)
      : set_(set),
        back_(back),
        phases_(set.branch->stride * set.branch->stride),
        targets_{set.group_in(),
                 prefer_lanes(back->layout, false, set.group_in(), back->phase->h_out, back->phase->w_out)} {
    for (int m = 0; m < set.branches; ++m) {
      phase_taps_[m] = 0;
      for (int64_t f = 0; f < phases_; ++f) phase_taps_[m] += back[m].phase[f].count;
      packed_at_[m] = packed_floats_;
      dz_at_[m] = dz_image_;
      dz_image_ += set.branch->c_out * back[m].layout.channel;
      packed_floats_ += set.branch->groups * targets_.padded() * set.group_out() * phase_taps_[m];
    }
  }

  const OutBlocks& targets() const { return targets_; }  // of a group

  int64_t dz_image() const { return dz_image_; }  // floats of the padded planes of dz of an image

  // Before all else: weights in the order of reading, per branch, group and block all phases one after another.
  void pack(const float* const* weight) {
    if (packed_ != nullptr) return;
    packed_ = shared_scratch(Shared::kWeights, packed_floats_ + 1);
    const int64_t groups = set_.branch->groups, blocks = targets_.count();
    const int64_t group_in = set_.group_in(), group_out = set_.group_out();
    parallel(set_.branches * groups * blocks, [&](int64_t task, int) {
      const int m = static_cast<int>(task / (groups * blocks));
      const int64_t group = task % (groups * blocks) / blocks, k2 = set_.branch[m].kernel * set_.branch[m].kernel;
      const ChannelBlock b = targets_.at(task % blocks);
      const int64_t width = targets_.width(b);
      float* to = packed_ + place(m, group, b);
      const float* from = weight[m] + (group * group_out * group_in + b.first) * k2;
      for (int64_t f = 0; f < phases_; ++f) {
        const TapSet& taps = back_[m].phase[f];
        for (int64_t co = 0; co < group_out; ++co) {
          for (int64_t t = 0; t < taps.count; ++t, to += width) {
            for (int64_t i = 0; i < b.size; ++i) to[i] = from[(co * group_in + i) * k2 + taps.index[t]];
            for (int64_t i = b.size; i < width; ++i) to[i] = 0.0f;
          }
        }
      }
    });
    int64_t most_pitch = 1;
    for (int m = 0; m < set_.branches; ++m) most_pitch = max_of(most_pitch, back_[m].layout.pitch);
    reserve_local(Local::kTile, max_of(tile_floats(most_pitch), kLaneTileFloats));
    const TapSet& phase = *back_->phase;
    if (set_.branch->stride == 2) reserve_local(Local::kHeld, targets_.most() * phase.h_out * phase.w_out);
  }

  const float* weights(int m, int64_t group, ChannelBlock b) const { return packed_ + place(m, group, b); }

  // Block b of dx of image n of padded planes dz of its group.
  void add(int m, int64_t n, int64_t group, ChannelBlock b, const float* dz, float* dx, int worker) const {
    const ConvShape& shape = *set_.branch;
    const int64_t hw = shape.h * shape.w, group_out = set_.group_out();
    const PlaneLayout& layout = back_[m].layout;
    const float* w = weights(m, group, b);
    float* tile = local_scratch(Local::kTile, worker);
    float* to = dx + (n * set_.channels() + set_.first_in(m, group) + b.first) * hw;
    const bool add = m > 0 && !set_.split;
    for (int64_t f = 0; f < phases_; ++f) {
      const TapSet& taps = back_[m].phase[f];
      if (add && taps.count == 0) continue;
      EmitArray<EmitGradient> emit;
      for (int64_t i = 0; i < b.size; ++i) {
        emit.put(i, phase_gradient(to + i * hw, shape, back_[m], f, add, i, worker));
      }
      const LaneSource source{layout.pitch, 1, layout.channel, taps.count, taps.offset};
      Coming none;
      if (!targets_.lanes) {
        tap_rows(taps, layout.pitch, dz, layout.channel, group_out, w, b.size, tile, emit.at(0), none);
      } else {
        const LaneTiles tiles(taps.h_out, taps.w_out);
        lane_planes(tiles, 0, tiles.count(), source, group_out, dz, w, b.size, true, tile, emit.at(0), none);
      }
      w += group_out * taps.count * targets_.width(b);
    }
  }

  // All of dx of images [n0, n0 + now) from planes of dz (images, branches, c_out), each of `plane` floats in rows of
  // `pitch`.
  void add_images(int64_t n0, int64_t now, const float* spread, int64_t plane, int64_t pitch,
                  const float* const* weight, float* dx) {
    const ConvShape& shape = *set_.branch;
    const int64_t hw = shape.h * shape.w, channels = set_.channels(), groups = shape.groups;
    const int64_t group_out = set_.group_out(), planes_out = set_.branches * shape.c_out;
    pack(weight);
    // Of 1x1 kernels the planes of dz are what the convolution reads, as they stand.
    const bool as_it_stands = shape.stride == 1 && targets_.lanes && set_.branches == 1 && back_[0].layout.direct &&
                              back_->phase->count == 1 && pitch == shape.w_out;
    if (as_it_stands) {
      const LaneSource source{0, 1, plane, 1, back_->phase->offset};
      lane_convolution(
          LaneTiles(1, shape.h_out * shape.w_out), now, groups, targets_, group_out, [&](int64_t) { return source; },
          [&](int64_t group, int64_t i) { return spread + i * planes_out * plane + group * group_out * plane; },
          [&](int64_t group, ChannelBlock b) { return weights(0, group, b); },
          [&](int64_t group, int64_t i, int64_t c) {
            float* to = dx + ((n0 + i) * channels + set_.first_in(0, group) + c) * hw;
            return EmitGradient{to, 1, 0, 0, shape.w, shape.w, false};
          });
      return;
    }
    float* dz = shared_scratch(Shared::kPlanes, now * dz_image_);
    parallel(now * planes_out, [&](int64_t task, int worker) {
      const int64_t i = task / planes_out, co = task % shape.c_out;
      const int m = static_cast<int>(task % planes_out / shape.c_out);
      float* row = local_scratch(Local::kRow, worker);
      unspread_rows(spread + task * plane, shape.h_out, shape.w_out, pitch, row);
      pad_plane(back_[m].layout, row, dz + i * dz_image_ + dz_at_[m] + co * back_[m].layout.channel);
    });
    const int64_t blocks = targets_.count();
    const int64_t targets = groups * blocks * (set_.split ? set_.branches : 1);  // blocks of dx channels
    const bool image_first = hw >= 128;
    parallel(now * targets, [&](int64_t task, int worker) {
      const int64_t i = image_first ? task / targets : task % now;
      const int64_t target = image_first ? task % targets : task / now;
      const int64_t group = target % (groups * blocks) / blocks;
      const ChannelBlock b = targets_.at(target % blocks);
      const int first = set_.split ? static_cast<int>(target / (groups * blocks)) : 0;
      const int last = set_.split ? first + 1 : set_.branches;
      for (int m = first; m < last; ++m) {
        const float* from = dz + i * dz_image_ + dz_at_[m] + group * group_out * back_[m].layout.channel;
        add(m, n0 + i, group, b, from, dx, worker);
      }
    });
  }

 private:
  int64_t place(int m, int64_t group, ChannelBlock b) const {
    return packed_at_[m] + (group * targets_.padded() + b.first) * set_.group_out() * phase_taps_[m];
  }

  const ConvSet& set_;
  const BackwardPlan* back_;
  const int64_t phases_;
  const OutBlocks targets_;
  int64_t packed_at_[kMaxBranches], phase_taps_[kMaxBranches], packed_floats_ = 0;
  int64_t dz_at_[kMaxBranches], dz_image_ = 0;
  float* packed_ = nullptr;
};
