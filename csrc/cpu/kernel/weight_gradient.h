// SPDX-License-Identifier: Apache-2.0
// The gradient of a convolution by its weights, for all branches of whole images: each in the way that suits it.

// Images of both operands.
struct GradientPlanes {
  int64_t images;
  bool first;           // nothing has been added before
  const float* x;       // (images, channels, h, w)
  const float* padded;  // the same with the layout of the forward plan, if that is wanted, and not the same
  const float* dz;      // (images, branches, c_out, plane)
  int64_t plane, pitch;
};

// Zeros. For sums that are added to dweight as they come, or do not reach all of it.
static void clear_weights(const ConvSet& set, float* const* dweight) {
  for (int m = 0; m < set.branches; ++m) {
    const int64_t floats = set.group_in() * set.branch[m].kernel * set.branch[m].kernel;
    parallel(set.branch->c_out, [&](int64_t c, int) { fill_zero(dweight[m] + c * floats, floats); });
  }
}

class WeightGradient {
 public:
  // plain: sums as they are, whatever would suit. dweight[m] like the weights.
  WeightGradient(const ConvSet& set, const ForwardPlan& plan, bool plain, float* const* dweight)
      : set_(set), plan_(plan), dweight_(dweight) {
    bool all = true, tiles = !plain, products = true, whole = true;
    int64_t floats = 0, other[kMaxBranches] = {};
    for (int m = 0; m < set.branches; ++m) {
      const ConvShape &shape = set.branch[m], reduced = without_stride(shape);
      by_winograd_[m] = !plain && suits_winograd_weights(reduced);
      if (by_winograd_[m]) {
        winograd_[m] = plan_winograd_weights(reduced);
        floats += winograd_[m].sum_floats();
        continue;
      }
      all = false;
      const int64_t taps = plan.taps[m].count;
#ifdef SKNET_AMX
      tiles = tiles && taps > 0 && suits_tile_weights(shape);
#endif
      products = products && taps > 0 && suits_weight_product(shape);
      whole = whole && taps == shape.kernel * shape.kernel;  // every position of the kernel meets an input
    }
    // The branches that do not go Winograd's way all go another.
#ifndef SKNET_AMX
    tiles = false;
#endif
    way_ = all ? kWinograd : tiles ? kTiles : products ? kProducts : kPairs;
    if (way_ == kPairs || !whole) clear_weights(set, dweight);
    for (int m = 0; m < set.branches; ++m) {
      if (by_winograd_[m]) continue;
      if (way_ == kProducts) {
        product_[m] = plan_weight_product(set.branch[m], plan.taps[m], plan.layout.pitch);
        other[m] = weight_product_floats(set.branch[m]);
      }
#ifdef SKNET_AMX
      if (way_ == kTiles) other[m] = tile_weight_floats(set.branch[m]);
#endif
      floats += other[m];
    }
    float* at = floats > 0 ? shared_scratch(Shared::kSums, floats) : nullptr;
    for (int m = 0; m < set.branches; ++m) {
      if (by_winograd_[m]) winograd_[m].sums = at, at += winograd_[m].sum_floats();
      sums_[m] = at, at += other[m];
    }
  }

  // Whether dz has no gaps between its rows; else it has the rows of padded x, zero between them, so that the garbage
  // of x counts for nothing.
  bool gapless() const { return way_ == kTiles || way_ == kProducts; }
  // Whether padded x is wanted, and of which channels.
  bool wants_padded() const { return way_ != kWinograd && !x_as_it_is(); }
  bool wants_padded(int64_t channel) const { return !set_.split || !by_winograd_[channel / set_.branch->c_in]; }

  void add(const GradientPlanes& p) const {
#if SKNET_VEC > 1
    const ConvShape& s = *set_.branch;
    const int64_t hw = s.h * s.w, images = set_.channels() * hw;
    for (int m = 0; m < set_.branches; ++m) {
      if (!by_winograd_[m]) continue;
      winograd_weights_add(winograd_[m], p.images, p.first,
                           {p.x + set_.first_in(m, 0) * hw, images, hw, s.stride * s.w, s.stride},
                           {dz(p, m), dz_image(p), p.plane, p.pitch, 1});
    }
#endif
    if (way_ == kTiles) add_tiles(p);
    if (way_ == kProducts) add_products(p);
    if (way_ == kPairs) add_pairs(p);
  }

  // The sums -> dweight. False if something is not finite: all is to be computed again, plain.
  bool finish() const {
    bool finite = true;
#if SKNET_VEC > 1
    for (int m = 0; m < set_.branches; ++m) {
      if (by_winograd_[m]) {
        finite = winograd_weights_finish(winograd_[m], dweight_[m]) && finite;
        continue;
      }
#ifdef SKNET_AMX
      if (way_ == kTiles) {
        finite = tile_weights_finish(set_.branch[m], plan_.taps[m], sums_[m], dweight_[m]) && finite;
      }
#endif
      const int64_t k2 = set_.branch[m].kernel * set_.branch[m].kernel;
      if (way_ == kProducts) weight_product_finish(product_[m], plan_.taps[m], k2, sums_[m], dweight_[m]);
    }
#endif
    return finite;
  }

 private:
  enum Way { kWinograd, kTiles, kProducts, kPairs };

  // Of 1x1 kernels without padding x serves the tiles as it is.
  bool x_as_it_is() const {
    const ConvShape& s = *set_.branch;
    return way_ == kTiles && set_.branches == 1 && s.kernel == 1 && s.padding == 0 && s.stride <= 2;
  }
  const float* dz(const GradientPlanes& p, int m) const { return p.dz + m * set_.branch->c_out * p.plane; }
  int64_t dz_image(const GradientPlanes& p) const { return set_.branches * set_.branch->c_out * p.plane; }
  // Planes of x with the layout of the forward plan.
  const float* planes(const GradientPlanes& p) const { return p.padded == nullptr ? p.x : p.padded; }
  int64_t plane_floats(const GradientPlanes& p) const {
    return p.padded == nullptr ? set_.branch->h * set_.branch->w : plan_.layout.channel;
  }

  void add_tiles(const GradientPlanes& p) const {
#ifdef SKNET_AMX
    const ConvShape& s = *set_.branch;
    const bool as_it_is = x_as_it_is();
    const TilePlanes dz_planes{s.h_out, s.w_out, p.pitch, 1, p.plane};
    const TilePlanes x_planes{s.h_out, s.w_out, as_it_is ? s.w : plan_.layout.pitch, as_it_is ? s.stride : 1,
                              plane_floats(p)};
    for (int m = 0; m < set_.branches; ++m) {
      if (by_winograd_[m]) continue;
      tile_weights_add(set_.branch[m], plan_.taps[m], p.images, p.first,
                       planes(p) + set_.first_in(m, 0) * x_planes.channel, x_planes, set_.channels() * x_planes.channel,
                       dz(p, m), dz_planes, dz_image(p), sums_[m]);
    }
#else
    (void)p;
#endif
  }

  void add_products(const GradientPlanes& p) const {
#if SKNET_VEC > 1
    const int64_t channel = plane_floats(p);
    for (int m = 0; m < set_.branches; ++m) {
      if (by_winograd_[m]) continue;
      weight_product_add(product_[m], plan_.taps[m], p.images, p.first, planes(p) + set_.first_in(m, 0) * channel,
                         channel, set_.channels() * channel, dz(p, m), p.plane, dz_image(p), sums_[m]);
    }
#else
    (void)p;
#endif
  }

  void add_pairs(const GradientPlanes& p) const {
    const ConvShape& s = *set_.branch;
    const int64_t channel = plane_floats(p), group_in = set_.group_in(), group_out = set_.group_out();
    const int64_t vectors = ceil_div((s.h_out - 1) * p.pitch + s.w_out, kVec);
    const int64_t wide = ceil_div(group_out, 4), range = 8 * kPairs;
    for (int m = 0; m < set_.branches; ++m) {
      if (by_winograd_[m]) continue;
      const int64_t k2 = set_.branch[m].kernel * set_.branch[m].kernel, per_channel = group_in * k2;
      const int64_t pairs = group_in * plan_.taps[m].count, ranges = ceil_div(pairs, range);
      parallel(s.groups * wide * ranges, [&](int64_t task, int) {
        const int64_t group = task / (wide * ranges), k = task / wide % ranges * range;
        const int64_t end = min_of(group_out, (task % wide + 1) * 4);
        for (int64_t co = task % wide * 4; co < end;) {
          const ChannelBlock b = weight_block_at(end, co);
          const int64_t c = group * group_out + co;
          weight_pairs(plan_.taps[m], k2, k, min_of(pairs, k + range), planes(p) + set_.first_in(m, group) * channel,
                       channel, set_.channels() * channel, dz(p, m) + c * p.plane, p.plane, dz_image(p), p.images,
                       vectors, b.size, dweight_[m] + c * per_channel, per_channel);
          co += b.size;
        }
      });
    }
  }

  const ConvSet& set_;
  const ForwardPlan& plan_;
  float* const* dweight_;
  Way way_;
  bool by_winograd_[kMaxBranches];
  WinogradWeights winograd_[kMaxBranches];
  [[maybe_unused]] WeightProduct product_[kMaxBranches];
  float* sums_[kMaxBranches];  // of branches that do not go Winograd's way
};
