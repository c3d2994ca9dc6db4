// SPDX-License-Identifier: Apache-2.0
// Gradients of the multi-branch grouped convolution by its input and its weights.
//
// The gradient by the outputs is not a tensor: produce(m, n, c, plane) computes one plane of it where it is needed.

// One phase of a plane of dx, stored or added. Of stride 2 the phase of columns 0, 2 .. may be held back, in rows of
// held_width, until that of columns 1, 3 .. comes: together they are whole vectors.
struct EmitGradient {
  static constexpr bool kAnyOrder = true;
  float* dx;
  int64_t stride, phase_row, phase_col, phase_width, dx_width;
  bool add;
  float* held = nullptr;
  int64_t held_width = 0;
  const float* writes() const { return stride == 1 ? dx : nullptr; }
  const float* reads() const { return nullptr; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    if (stride == 1) {
      each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) {
        float* to = dx + at + i;
        store_some(to, add ? load_some(to, n) + v : v, n);
      });
      return;
    }
    if (phase_width == 0) return;
    if (held != nullptr && phase_col == 0) {
      each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) { store_some(held + at + i, v, n); });
      return;
    }
    int64_t row = at / phase_width, column = at % phase_width;
    for (int64_t a = 0; a < rows; ++a, from += pitch) {
      for (int64_t b = 0; b < width;) {
        const int64_t now = min_of(width - b, phase_width - column);
        float* to = dx + (row * stride + phase_row) * dx_width + column * stride + phase_col;
        if (held != nullptr) {
          const float* even = held + row * held_width + column;
          join_row(even, from + b, now, to - 1, add);
          if (column + now == phase_width && held_width > phase_width) {
            float* last = to - 1 + 2 * now;
            *last = add ? *last + even[now] : even[now];
          }
        } else if (stride == 2) {
          store_every_other(from + b, now, to, add);
        } else {
          for (int64_t i = 0; i < now; ++i) to[i * stride] = add ? to[i * stride] + from[b + i] : from[b + i];
        }
        b += now, column += now;
        if (column == phase_width) column = 0, ++row;
      }
    }
  }
  void finish() {}
};

// Phase f of a plane of dx. held: which of the planes that are held back at the same time.
static inline EmitGradient phase_gradient(float* dx, const ConvShape& s, const BackwardPlan& back, int64_t f, bool add,
                                          int64_t held, int worker) {
  const TapSet& taps = back.phase[f];
  EmitGradient emit{dx, s.stride, f / s.stride, f % s.stride, taps.w_out, s.w, add};
  if (s.stride != 2) return emit;
  const TapSet &even = back.phase[f / 2 * 2], &odd = back.phase[f / 2 * 2 + 1];
  if (odd.w_out == 0 || (add && (even.count == 0 || odd.count == 0))) return emit;
  emit.held = local_scratch(Local::kHeld, worker) + held * back.phase->h_out * back.phase->w_out;
  emit.held_width = even.w_out;
  return emit;
}

static inline void weight_run_block(int64_t size, int pairs, const float* dz, int64_t dz_channel, int64_t dz_image,
                                    const float* const* x, int64_t x_image, int64_t images, int64_t vectors, float* dw,
                                    int64_t dw_stride, const int64_t* dw_index) {
  switch (size) {
    case 4: weight_run<4>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 2: weight_run<2>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    default:
      weight_run<1>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index);
      break;
  }
}

// dw of `size` output channels for the (channel, tap) pairs [from, to).
static void weight_pairs(const TapSet& taps, int64_t kernel2, int64_t from, int64_t to, const float* planes,
                         int64_t channel, int64_t x_image, const float* dz, int64_t dz_channel, int64_t dz_image,
                         int64_t images, int64_t vectors, int64_t size, float* dw, int64_t dw_stride) {
  for (int64_t k = from; k < to; k += kPairs) {
    const int pairs = static_cast<int>(min_of(kPairs, to - k));
    const float* x[kPairs];
    int64_t index[kPairs];
    for (int i = 0; i < pairs; ++i) {
      const int64_t c = (k + i) / taps.count, t = (k + i) % taps.count;
      x[i] = planes + c * channel + taps.offset[t];
      index[i] = c * kernel2 + taps.index[t];
    }
    weight_run_block(size, pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, index);
  }
}

// Output channels of the weight gradient go in blocks of 4, 2 and 1.
static inline ChannelBlock weight_block_at(int64_t channels, int64_t first) {
  const int64_t rest = channels - first;
  return {first, rest >= 4 ? 4 : rest >= 2 ? 2 : 1};
}

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

// x (n, c_in, h, w), dx like x or null, dweight[m] like weight[m].
template <typename Produce>
static void conv_backward(const ConvSet& set, const float* x, const float* const* weight, float* dx,
                          float* const* dweight, Produce&& produce, bool plain = false) {
  const ConvShape& shape = set.branch[0];
  const int64_t hw_in = shape.h * shape.w, hw_out = shape.h_out * shape.w_out;
  const int64_t group_in = set.group_in(), group_out = set.group_out(), groups = shape.groups;
  const int64_t channels = set.channels(), phases = shape.stride * shape.stride;
  // For ways that add to dweight as sums come, or store less than all of it. Others store all of it at their end.
  auto clear_dweight = [&] {
    for (int m = 0; m < set.branches; ++m) {
      const int64_t floats = group_in * set.branch[m].kernel * set.branch[m].kernel;
      parallel(shape.c_out, [&](int64_t c, int) { fill_zero(dweight[m] + c * floats, floats); });
    }
  };
  if (shape.n == 0) return clear_dweight();
  reserve_local(Local::kRow, hw_out + kVec);  // one plane of dz

  ForwardPlan plan;
  plan_forward(set.branch, set.branches, true, &plan);
  const PlaneLayout& in = plan.layout;
  BackwardPlan back[kMaxBranches];
  int64_t out_channel = 0, most_pitch = 1;  // one padded plane of dz, for whichever branch needs most
  for (int m = 0; m < set.branches; ++m) {
    plan_backward(set.branch[m], &back[m]);
    out_channel = max_of(out_channel, back[m].layout.channel);
    most_pitch = max_of(most_pitch, back[m].layout.pitch);
  }
  // The weight gradient reads dz with the rows of x: zero between them, so that the garbage of x counts for nothing.
  const int64_t vectors = ceil_div((shape.h_out - 1) * in.pitch + shape.w_out, kVec), flat = vectors * kVec;
  const bool x_direct = in.direct && hw_in % kVec == 0;

  // Weights for dx: per branch, group and block of input channels, all phases one after another.
  const TapSet& first_phase = back[0].phase[0];
  const OutBlocks targets_of{group_in,
                             prefer_lanes(back[0].layout, false, group_in, first_phase.h_out, first_phase.w_out)};
  const int64_t blocks = targets_of.count();
  int64_t packed_at[kMaxBranches], packed_floats = 0, phase_taps[kMaxBranches];
  for (int m = 0; m < set.branches; ++m) {
    phase_taps[m] = 0;
    for (int64_t f = 0; f < phases; ++f) phase_taps[m] += back[m].phase[f].count;
    packed_at[m] = packed_floats;
    packed_floats += groups * targets_of.padded() * group_out * phase_taps[m];
  }
  float* packed = nullptr;
  auto packed_block = [&](int m, int64_t group, ChannelBlock b) {
    return packed + packed_at[m] + (group * targets_of.padded() + b.first) * group_out * phase_taps[m];
  };
  auto pack = [&] {
    packed = shared_scratch(Shared::kWeights, packed_floats + 1);
    parallel(set.branches * groups * blocks, [&](int64_t task, int) {
      const int m = static_cast<int>(task / (groups * blocks));
      const int64_t group = task % (groups * blocks) / blocks, k2 = set.branch[m].kernel * set.branch[m].kernel;
      const ChannelBlock b = targets_of.at(task % blocks);
      const int64_t width = targets_of.width(b);
      float* to = packed_block(m, group, b);
      const float* from = weight[m] + (group * group_out * group_in + b.first) * k2;
      for (int64_t f = 0; f < phases; ++f) {
        const TapSet& taps = back[m].phase[f];
        for (int64_t co = 0; co < group_out; ++co) {
          for (int64_t t = 0; t < taps.count; ++t, to += width) {
            for (int64_t i = 0; i < b.size; ++i) to[i] = from[(co * group_in + i) * k2 + taps.index[t]];
            for (int64_t i = b.size; i < width; ++i) to[i] = 0.0f;
          }
        }
      }
    });
    reserve_local(Local::kTile, max_of(tile_floats(most_pitch), kLaneTileFloats));
    if (shape.stride == 2) reserve_local(Local::kHeld, targets_of.most() * first_phase.h_out * first_phase.w_out);
  };

  auto input_gradient = [&](int m, int64_t n, int64_t group, ChannelBlock b, const float* dz, int worker) {
    const float* w = packed_block(m, group, b);
    const PlaneLayout& layout = back[m].layout;
    float* tile = local_scratch(Local::kTile, worker);
    float* to = dx + (n * channels + set.first_in(m, group) + b.first) * hw_in;
    const bool add = m > 0 && !set.split;
    for (int64_t f = 0; f < phases; ++f) {
      const TapSet& taps = back[m].phase[f];
      if (add && taps.count == 0) continue;
      EmitArray<EmitGradient> emit;
      for (int64_t i = 0; i < b.size; ++i) {
        emit.put(i, phase_gradient(to + i * hw_in, shape, back[m], f, add, i, worker));
      }
      const LaneSource source{layout.pitch, 1, layout.channel, taps.count, taps.offset};
      Coming none;
      if (!targets_of.lanes) {
        tap_rows(taps, layout.pitch, dz, layout.channel, group_out, w, b.size, tile, emit.at(0), none);
      } else {
        const LaneTiles tiles(taps.h_out, taps.w_out);
        lane_planes(tiles, 0, tiles.count(), source, group_out, dz, w, b.size, true, tile, emit.at(0), none);
      }
      w += group_out * taps.count * targets_of.width(b);
    }
  };

  if (set.by_group(in.channel)) {
    if (dx != nullptr) pack();
    // As many images at a time as fit a second-level cache. Where the weight gradient ends in sums across vectors,
    // small maps must not pay for those for every image.
    const bool products = suits_group_product(set);
    const GroupProduct product = GroupProduct::of(set, in);
    const int64_t x_image = products ? product.x_floats() : group_in * in.channel;
    const int64_t flat_image = products ? product.dz_floats() : group_out * flat;
    const int64_t dz_image = group_out * out_channel, flat_plane = products ? product.dz_plane : flat;
    const int64_t chunk = max_of(1, min_of(shape.n, 96 * 1024 / (x_image + dz_image + flat_image)));
    // Products: planes on their way to having channels side by side, and the sums of all branches.
    if (!products) clear_dweight();
    const int64_t turning = products ? max_of(kVec * in.channel, product.dz_floats()) : 0;
    [[maybe_unused]] int64_t sums_at[kMaxBranches];
    int64_t sum_floats = 0;
    for (int m = 0; m < set.branches; ++m) {
      sums_at[m] = sum_floats;
      if (products) sum_floats += product.sum_floats(plan.taps[m].count);
    }
    reserve_local(Local::kPlanes, chunk * x_image + turning);
    reserve_local(Local::kPlanesB, chunk * (dz_image + flat_image));
    reserve_local(Local::kSums, sum_floats + product.offset_floats());
    parallel(groups, [&](int64_t group, int worker) {
      float* planes = local_scratch(Local::kPlanes, worker);
      float* turn = planes + chunk * x_image;
      float* dz = local_scratch(Local::kPlanesB, worker);
      float* spread = dz + chunk * dz_image;
      float* row = local_scratch(Local::kRow, worker);
      float* sums = local_scratch(Local::kSums, worker);
      [[maybe_unused]] int64_t* columns = reinterpret_cast<int64_t*>(sums + sum_floats);
      for (int64_t n0 = 0; n0 < shape.n; n0 += chunk) {
        const int64_t now = min_of(chunk, shape.n - n0);
        for (int m = 0; m < set.branches; ++m) {
          const PlaneLayout& layout = back[m].layout;
          for (int64_t i = 0; i < now; ++i) {
            const float* from = x + ((n0 + i) * channels + set.first_in(m, group)) * hw_in;
            for (int64_t c = 0; c < group_in && (m == 0 || set.split); ++c) {
              const int64_t place = products ? c % kVec : c;
              pad_plane(in, from + c * hw_in, (products ? turn : planes + i * x_image) + place * in.channel);
#if SKNET_VEC > 1
              if (products && place + 1 == kVec) {
                group_product_x(product, turn, c + 1 - kVec, planes + i * x_image);
              }
#endif
            }
            for (int64_t co = 0; co < group_out; ++co) {
              float* plane = products ? turn + co * flat_plane : row;
              produce(m, n0 + i, group * group_out + co, plane);
              if (dx != nullptr) pad_plane(layout, plane, dz + i * dz_image + co * layout.channel);
              if (!products) {
                spread_rows(row, shape.h_out, shape.w_out, in.pitch, flat, spread + i * flat_image + co * flat);
              }
            }
#if SKNET_VEC > 1
            if (products) {
              group_product_dz(product, turn, spread + i * flat_image);
              group_product_add(product, plan.taps[m], planes + i * x_image, spread + i * flat_image, n0 + i == 0,
                                columns, sums + sums_at[m]);
            }
#endif
          }
          const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel, per_channel = group_in * k2;
          for (int64_t co = 0; co < group_out && !products;) {
            const ChannelBlock b = weight_block_at(group_out, co);
            weight_pairs(plan.taps[m], k2, 0, group_in * plan.taps[m].count, planes, in.channel, x_image,
                         spread + co * flat, flat, flat_image, now, vectors, b.size,
                         dweight[m] + (group * group_out + co) * per_channel, per_channel);
            co += b.size;
          }
          for (int64_t i = 0; i < now && dx != nullptr; ++i) {
            for (int64_t j = 0; j < blocks; ++j) {
              input_gradient(m, n0 + i, group, targets_of.at(j), dz + i * dz_image, worker);
            }
          }
        }
      }
#if SKNET_VEC > 1
      for (int m = 0; m < set.branches && products; ++m) {
        const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel;
        group_product_finish(product, plan.taps[m], k2, sums + sums_at[m],
                             dweight[m] + group * group_out * group_in * k2);
      }
#endif
    });
    return;
  }

  int64_t dz_image = 0, dz_at[kMaxBranches];
  bool fast = !plain, fast_weights = !plain;  // dx and dweight in Winograd's way
  bool by_winograd[kMaxBranches];             // dweight of a branch
  int64_t sum_floats = 0;                     // of what becomes dweight
  WinogradWeights sums[kMaxBranches];
  for (int m = 0; m < set.branches; ++m) {
    dz_at[m] = dz_image;
    dz_image += shape.c_out * back[m].layout.channel;
    fast = fast && suits_winograd(transposed(set.branch[m]));
    const ConvShape reduced = without_stride(set.branch[m]);
    by_winograd[m] = !plain && suits_winograd_weights(reduced);
    fast_weights = fast_weights && by_winograd[m];
    if (!by_winograd[m]) continue;
    sums[m] = plan_winograd_weights(reduced);
    sum_floats += sums[m].sum_floats();
  }
  // The other branches, all in one way.
#ifdef SKNET_AMX
  bool tiles = !plain && !fast_weights;  // dweight on tiles
  for (int m = 0; m < set.branches; ++m) {
    tiles = tiles && (by_winograd[m] || (plan.taps[m].count > 0 && suits_tile_weights(set.branch[m])));
  }
#else
  constexpr bool tiles = false;
#endif
  // Otherwise dweight as matrix products, where the channels fill vectors.
  bool products = !fast_weights && !tiles;
  for (int m = 0; m < set.branches; ++m) {
    products = products && (by_winograd[m] || (plan.taps[m].count > 0 && suits_weight_product(set.branch[m])));
  }
  bool whole = true;  // every position of the kernels meets an input
  for (int m = 0; m < set.branches; ++m) {
    whole = whole && (by_winograd[m] || plan.taps[m].count == set.branch[m].kernel * set.branch[m].kernel);
  }
  if (!fast_weights && !((tiles || products) && whole)) clear_dweight();
  WeightProduct product[kMaxBranches];
  int64_t other_floats[kMaxBranches] = {};
  for (int m = 0; m < set.branches; ++m) {
    if (by_winograd[m]) continue;
    if (products) {
      product[m] = plan_weight_product(set.branch[m], plan.taps[m], in.pitch);
      other_floats[m] = weight_product_floats(set.branch[m]);
    }
#ifdef SKNET_AMX
    if (tiles) other_floats[m] = tile_weight_floats(set.branch[m]);
#endif
    sum_floats += other_floats[m];
  }
  float* sums_at = sum_floats > 0 ? shared_scratch(Shared::kSums, sum_floats) : nullptr;
  [[maybe_unused]] float* other_sums[kMaxBranches];
  for (int m = 0; m < set.branches; ++m) {
    if (by_winograd[m]) sums[m].sums = sums_at, sums_at += sums[m].sum_floats();
    other_sums[m] = sums_at, sums_at += other_floats[m];
  }
#ifdef SKNET_AMX
  bool dx_taps = !plain;
  for (int m = 0; m < set.branches; ++m) dx_taps = dx_taps && suits_input_taps(set.branch[m]);
  bool dx_tiles = !plain && set.branches == 1 && suits_tiles(transposed_1x1(shape));
#endif
  // 1x1 kernels without padding: x as it is serves the tiles.
  const bool as_it_is = tiles && set.branches == 1 && shape.kernel == 1 && shape.padding == 0 && shape.stride <= 2;
  // Products take dz without gaps.
  const int64_t pitch = products || tiles ? shape.w_out : in.pitch;
  const int64_t plane = ceil_div((shape.h_out - 1) * pitch + shape.w_out, kVec) * kVec;
  const int64_t flat_image = set.branches * shape.c_out * plane, x_image = channels * (x_direct ? hw_in : in.channel);
  const int64_t chunk = max_of(1, min_of(shape.n, kChunkFloats / max_of(dz_image, max_of(flat_image, x_image))));
  float* spread = shared_scratch(Shared::kPlanesB, chunk * flat_image);
  float* padded = x_direct || fast_weights || as_it_is ? nullptr : shared_scratch(Shared::kPlanesC, chunk * x_image);
  for (int64_t n0 = 0; n0 < shape.n; n0 += chunk) {
    const int64_t now = min_of(chunk, shape.n - n0), planes_out = set.branches * shape.c_out;
    parallel(now * planes_out, [&](int64_t task, int worker) {
      float* row = local_scratch(Local::kRow, worker);
      produce(static_cast<int>(task % planes_out / shape.c_out), n0 + task / planes_out, task % shape.c_out, row);
      spread_rows(row, shape.h_out, shape.w_out, pitch, plane, spread + task * plane);
    });
    if (padded != nullptr) {
      parallel(now * channels, [&](int64_t task, int) {
        if (set.split && by_winograd[task % channels / shape.c_in]) return;
        pad_plane(in, x + (n0 * channels + task) * hw_in, padded + task * in.channel);
      });
    }
    bool made = dx == nullptr;
    if (!made && fast) made = fast = input_gradient_fast(set, n0, now, spread, plane, pitch, weight, dx);
#ifdef SKNET_AMX
    // Not again after a failure: its weights take the place of the plain ones.
    if (!made && dx_tiles) made = dx_tiles = input_gradient_tiles(set, n0, now, spread, plane, pitch, weight[0], dx);
#endif
#ifdef SKNET_AMX
    if (!made && dx_taps) made = dx_taps = input_gradient_taps(set, back, n0, now, spread, plane, pitch, weight, dx);
#endif
    // Of 1x1 kernels the planes of dz are what the convolution reads, as they stand.
    const bool as_it_stands = shape.stride == 1 && targets_of.lanes && set.branches == 1 && back[0].layout.direct &&
                              first_phase.count == 1 && pitch == shape.w_out;
    if (!made && as_it_stands) {
      if (packed == nullptr) pack();
      const LaneSource source{0, 1, plane, 1, first_phase.offset};
      lane_convolution(
          LaneTiles(1, hw_out), now, groups, targets_of, group_out, [&](int64_t) { return source; },
          [&](int64_t group, int64_t i) { return spread + i * flat_image + group * group_out * plane; },
          [&](int64_t group, ChannelBlock b) { return packed_block(0, group, b); },
          [&](int64_t group, int64_t i, int64_t c) {
            float* to = dx + ((n0 + i) * channels + set.first_in(0, group) + c) * hw_in;
            return EmitGradient{to, 1, 0, 0, shape.w, shape.w, false};
          });
    } else if (!made) {
      if (packed == nullptr) pack();
      float* dz = shared_scratch(Shared::kPlanes, chunk * dz_image);
      parallel(now * planes_out, [&](int64_t task, int worker) {
        const int64_t i = task / planes_out, co = task % shape.c_out;
        const int m = static_cast<int>(task % planes_out / shape.c_out);
        float* row = local_scratch(Local::kRow, worker);
        unspread_rows(spread + task * plane, shape.h_out, shape.w_out, pitch, row);
        pad_plane(back[m].layout, row, dz + i * dz_image + dz_at[m] + co * back[m].layout.channel);
      });
      const int64_t targets = groups * blocks * (set.split ? set.branches : 1);  // blocks of dx channels
      const bool image_first = hw_in >= 128;
      parallel(now * targets, [&](int64_t task, int worker) {
        const int64_t i = image_first ? task / targets : task % now;
        const int64_t target = image_first ? task % targets : task / now;
        const int64_t group = target % (groups * blocks) / blocks;
        const ChannelBlock b = targets_of.at(target % blocks);
        const int first = set.split ? static_cast<int>(target / (groups * blocks)) : 0;
        const int last = set.split ? first + 1 : set.branches;
        for (int m = first; m < last; ++m) {
          const float* from = dz + i * dz_image + dz_at[m] + group * group_out * back[m].layout.channel;
          input_gradient(m, n0 + i, group, b, from, worker);
        }
      });
    }
#if SKNET_VEC > 1
    for (int m = 0; m < set.branches; ++m) {
      if (!by_winograd[m]) continue;
      const float* from = x + (n0 * channels + set.first_in(m, 0)) * hw_in;
      winograd_weights_add(sums[m], now, n0 == 0, {from, channels * hw_in, hw_in, shape.stride * shape.w, shape.stride},
                           {spread + m * shape.c_out * plane, flat_image, plane, pitch, 1});
    }
#endif
    if (fast_weights) continue;
#ifdef SKNET_AMX
    for (int m = 0; m < set.branches && tiles; ++m) {
      if (by_winograd[m]) continue;
      const float* dz = spread + m * shape.c_out * plane;
      const TilePlanes dz_planes{shape.h_out, shape.w_out, pitch, 1, plane};
      const TilePlanes x_planes{shape.h_out, shape.w_out, as_it_is ? shape.w : in.pitch, as_it_is ? shape.stride : 1,
                                padded == nullptr ? hw_in : in.channel};
      const float* from =
          (padded == nullptr ? x + n0 * channels * hw_in : padded) + set.first_in(m, 0) * x_planes.channel;
      tile_weights_add(set.branch[m], plan.taps[m], now, n0 == 0, from, x_planes, channels * x_planes.channel, dz,
                       dz_planes, flat_image, other_sums[m]);
    }
    if (tiles) continue;
#endif
    const float* planes = x_direct ? x + n0 * x_image : padded;
    const int64_t channel = x_direct ? hw_in : in.channel;
    if (products) {
#if SKNET_VEC > 1
      for (int m = 0; m < set.branches; ++m) {
        if (by_winograd[m]) continue;
        weight_product_add(product[m], plan.taps[m], now, n0 == 0, planes + set.first_in(m, 0) * channel, channel,
                           x_image, spread + m * shape.c_out * plane, plane, flat_image, other_sums[m]);
      }
#endif
      continue;
    }
    const int64_t wide = ceil_div(group_out, 4), range = 8 * kPairs;
    for (int m = 0; m < set.branches; ++m) {
      if (by_winograd[m]) continue;
      const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel, per_channel = group_in * k2;
      const int64_t pairs = group_in * plan.taps[m].count, ranges = ceil_div(pairs, range);
      parallel(groups * wide * ranges, [&](int64_t task, int) {
        const int64_t group = task / (wide * ranges), k = task / wide % ranges * range;
        const int64_t end = min_of(group_out, (task % wide + 1) * 4);
        for (int64_t co = task % wide * 4; co < end;) {
          const ChannelBlock b = weight_block_at(end, co);
          const int64_t c = group * group_out + co;
          weight_pairs(plan.taps[m], k2, k, min_of(pairs, k + range), planes + set.first_in(m, group) * channel,
                       channel, x_image, spread + (m * shape.c_out + c) * plane, plane, flat_image, now, vectors,
                       b.size, dweight[m] + c * per_channel, per_channel);
          co += b.size;
        }
      });
    }
  }
#if SKNET_VEC > 1
  bool finite = true;
  for (int m = 0; m < set.branches; ++m) {
    if (by_winograd[m]) {
      finite = winograd_weights_finish(sums[m], dweight[m]) && finite;
      continue;
    }
#ifdef SKNET_AMX
    if (tiles) finite = tile_weights_finish(set.branch[m], plan.taps[m], other_sums[m], dweight[m]) && finite;
#endif
    const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel;
    if (products) weight_product_finish(product[m], plan.taps[m], k2, other_sums[m], dweight[m]);
  }
  if (!finite) conv_backward(set, x, weight, dx, dweight, produce, true);
#endif
}
