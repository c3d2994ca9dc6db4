// SPDX-License-Identifier: Apache-2.0
// Multi-branch grouped convolution, forward.

// Output channels are worked on in blocks of 8 and 4, the rest in one of 3, 2 or 1.
#if SKNET_VEC == 16 || defined(__aarch64__)
inline constexpr int64_t kBlock = 8;
#else
inline constexpr int64_t kBlock = 4;
#endif

struct ChannelBlock {
  int64_t first, size;
};

static inline int64_t block_count(int64_t channels) {
  const int64_t rest = channels % kBlock;
  return channels / kBlock + rest / 4 + (rest % 4 > 0 ? 1 : 0);
}

static inline ChannelBlock block_at(int64_t channels, int64_t index) {
  const int64_t whole = channels / kBlock, first = whole * kBlock, rest = channels - first;
  if (index < whole) return {index * kBlock, kBlock};
  if (rest < 4) return {first, rest};
  return index == whole ? ChannelBlock{first, 4} : ChannelBlock{first + 4, rest - 4};
}

static inline void tap_run_block(int64_t size, const float* x, int64_t channel, int64_t channels, const int64_t* offset,
                                 int64_t taps, const float* w, float* out, int64_t out_stride, int64_t vectors,
                                 Coming& coming) {
  switch (size) {
#if SKNET_VEC == 16 || defined(__aarch64__)
    case 8: tap_run<8>(x, channel, channels, offset, taps, w, out, out_stride, vectors, false, coming); break;
#endif
    case 4: tap_run<4>(x, channel, channels, offset, taps, w, out, out_stride, vectors, false, coming); break;
    case 3: tap_run<3>(x, channel, channels, offset, taps, w, out, out_stride, vectors, false, coming); break;
    case 2: tap_run<2>(x, channel, channels, offset, taps, w, out, out_stride, vectors, false, coming); break;
    default: tap_run<1>(x, channel, channels, offset, taps, w, out, out_stride, vectors, false, coming); break;
  }
}

static inline void tap_run_exact_block(int64_t size, const float* x, int64_t channel, int64_t channels,
                                       const int64_t* offset, int64_t taps, const float* w, float* out,
                                       int64_t out_stride, int64_t length, Coming& coming) {
  switch (size) {
#if SKNET_VEC == 16 || defined(__aarch64__)
    case 8: tap_run_exact<8>(x, channel, channels, offset, taps, w, out, out_stride, length, coming); break;
#endif
    case 4: tap_run_exact<4>(x, channel, channels, offset, taps, w, out, out_stride, length, coming); break;
    case 3: tap_run_exact<3>(x, channel, channels, offset, taps, w, out, out_stride, length, coming); break;
    case 2: tap_run_exact<2>(x, channel, channels, offset, taps, w, out, out_stride, length, coming); break;
    default: tap_run_exact<1>(x, channel, channels, offset, taps, w, out, out_stride, length, coming); break;
  }
}

inline constexpr int64_t kTileFloats = 4096;  // of a block's outputs before they are stored: half of an L1 cache

// Rows of a tile of `size` channels, and the floats that one channel of it takes.
static inline int64_t tile_rows(int64_t size, int64_t pitch) { return max_of(1, kTileFloats / size / pitch); }
static inline int64_t tile_stride(int64_t size, int64_t pitch) {
  return ceil_div(max_of(tile_rows(size, pitch) * pitch, kTileFloats / size), kVec) * kVec + kVec;
}
static inline int64_t tile_floats(int64_t pitch) {
  int64_t most = 0;
  for (int64_t size = 1; size <= kBlock; ++size) most = max_of(most, size * tile_stride(size, pitch));
  return most;
}

// `size` output planes from padded input planes, to emit[0 .. size).
template <typename Emit>
static void tap_rows(const TapSet& taps, int64_t pitch, const float* planes, int64_t channel, int64_t channels,
                     const float* w, int64_t size, float* tile, Emit* emit, Coming& coming) {
  const int64_t step = tile_rows(size, pitch), stride = tile_stride(size, pitch);
  for (int64_t row = 0; row < taps.h_out; row += step) {
    const int64_t rows = min_of(step, taps.h_out - row);
    const int64_t vectors = ceil_div((rows - 1) * pitch + taps.w_out, kVec);
    tap_run_block(size, planes + row * pitch, channel, channels, taps.offset, taps.count, w, tile, stride, vectors,
                  coming);
    for (int64_t i = 0; i < size; ++i) emit[i].rows(row * taps.w_out, rows, taps.w_out, tile + i * stride, pitch);
  }
}

// The same where the source itself serves as its padded form (1x1, stride 1) and nothing past it may be read.
template <typename Emit>
static void tap_direct(const TapSet& taps, const float* planes, int64_t channel, int64_t channels, const float* w,
                       int64_t size, float* tile, Emit* emit, Coming& coming) {
  const int64_t length = taps.h_out * taps.w_out;
  const int64_t step = kTileFloats / size / kVec * kVec, stride = tile_stride(size, 1);
  for (int64_t p = 0; p < length; p += step) {
    const int64_t now = min_of(step, length - p);
    const int64_t back = now < kVec ? kVec - now : 0;  // the kernel wants a vector: take positions that were done
    tap_run_exact_block(size, planes + p - back, channel, channels, taps.offset, taps.count, w, tile, stride,
                        now + back, coming);
    for (int64_t i = 0; i < size; ++i) emit[i].rows(p, 1, now, tile + i * stride + back, now);
  }
}

// weight (size, channels, kernel^2) from row `first` on -> packed (channels, taps, size)
static void pack_weights(const float* weight, int64_t kernel2, int64_t channels, const TapSet& taps, int64_t size,
                         float* packed) {
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < taps.count; ++t, packed += size) {
      const float* w = weight + c * kernel2 + taps.index[t];
      for (int64_t i = 0; i < size; ++i) packed[i] = w[i * channels * kernel2];
    }
  }
}

// Several convolutions of one input (or of its parts, if split).
struct ConvSet {
  const ConvShape* branch;
  int branches;
  bool split;
  KeptWeights* kept;
  int parts;               // of the input, if split
  int part[kMaxBranches];  // what a branch reads of them
  ConvSet(const ConvShape* shapes, int count, bool split_input, KeptWeights* keep = nullptr)
      : branch(shapes), branches(count), split(split_input), kept(keep), parts(count), part{} {
    for (int m = 0; m < count; ++m) part[m] = m;
  }
  int64_t channels() const { return split ? branch[0].c_in * parts : branch[0].c_in; }  // of the input tensor
  int64_t group_in() const { return branch[0].c_in / branch[0].groups; }
  int64_t group_out() const { return branch[0].c_out / branch[0].groups; }
  // First input channel of a group of a branch.
  int64_t first_in(int m, int64_t group) const { return (split ? part[m] * branch[0].c_in : 0) + group * group_in(); }
  // One group at a time, its padded planes in cache for all branches, rather than whole images. Must not depend on
  // the number of threads: the order of summation hangs on it.
  bool by_group(int64_t plane_floats) const { return branch[0].groups >= 8 && group_in() * plane_floats <= 96 * 1024; }
};

inline constexpr int64_t kChunkFloats = 4 << 20;  // padded planes in flight: 16 MB

// Output channels of one task: a block of positions-in-lanes kernels, or up to two vectors of channels-in-lanes.
struct OutBlocks {
  int64_t channels;  // of a group
  bool lanes;
  int64_t count() const { return lanes ? ceil_div(channels, 2 * kVec) : block_count(channels); }
  ChannelBlock at(int64_t i) const {
    if (!lanes) return block_at(channels, i);
    return {i * 2 * kVec, min_of(2 * kVec, channels - i * 2 * kVec)};
  }
  int64_t most() const { return lanes ? 2 * kVec : kBlock; }
  // Channels that the packed weights of a block, and of a group, have room for.
  int64_t width(ChannelBlock b) const { return lanes ? ceil_div(b.size, kVec) * kVec : b.size; }
  int64_t padded() const { return lanes ? ceil_div(channels, kVec) * kVec : channels; }
};

// Convolutions of some images with channels in the lanes, for several sets of planes (branches, groups), each of `out`
// blocks from `channels` planes. source_of(set), planes_of(set, image), weights_of(set, block) and emitter(set, image,
// channel) say of what.
template <typename SourceOf, typename PlanesOf, typename WeightsOf, typename Emitter>
static void lane_convolution(const LaneTiles& tiles, int64_t images, int64_t sets, const OutBlocks& out,
                             int64_t channels, SourceOf&& source_of, PlanesOf&& planes_of, WeightsOf&& weights_of,
                             Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}, int64_t{}));
  const int64_t blocks = out.count();
  const LaneShares split(tiles.count(), images, sets, blocks, channels, Emit::kAnyOrder);
  reserve_local(Local::kPlanes, split.together * split.range * channels * kPanelTile);
  parallel(split.tasks(), [&](int64_t task, int worker) {
    int64_t rest = task;
    auto next = [&rest](int64_t of) {
      const int64_t index = rest % of;
      rest /= of;
      return index;
    };
    const int64_t share = next(split.shares), piece = next(split.ranges()), set = next(sets);
    const int64_t i0 = rest * split.together, now = min_of(split.together, images - i0);
    const int64_t from = share * blocks / split.shares, to = (share + 1) * blocks / split.shares;
    const int64_t first = out.at(from).first, planes_out = min_of(out.channels, to * 2 * kVec) - first;
    const int64_t t_first = split.apart ? piece * split.range : 0;
    const int64_t t_last = split.apart ? min_of(tiles.count(), t_first + split.range) : tiles.count();
    float* tile = local_scratch(Local::kTile, worker);
    Coming none;
    EmitArray<Emit, kLaneEmits> emit;
    for (int64_t k = 0; k < now * planes_out; ++k) {
      emit.put(k, emitter(set, i0 + k / planes_out, first + k % planes_out));
    }
    const LaneSource source = source_of(set);
    float* panels = source.taps == 1 ? local_scratch(Local::kPlanes, worker) : nullptr;
    for (int64_t t0 = t_first; t0 < t_last; t0 += split.range) {
      const int64_t t1 = min_of(t_last, t0 + split.range), count = t1 - t0;
      for (int64_t k = 0; panels != nullptr && k < now * count; ++k) {
        const int64_t t = t0 + k % count;
        const float* at = planes_of(set, i0 + k / count) + source.offset[0] + tiles.offset(t, source);
        lane_panel(source, channels, at, tiles.rows_of(t), tiles.columns_of(t), tile,
                   panels + k * channels * kPanelTile);
      }
      for (int64_t block = from; block < to; ++block) {
        const ChannelBlock b = out.at(block);
        const float* w = weights_of(set, b);
        for (int64_t i = 0; i < now; ++i) {
          Emit* planes = emit.at(i * planes_out + b.first - first);
          if (panels == nullptr) {
            lane_planes(tiles, t0, t1, source, channels, planes_of(set, i0 + i), w, b.size, i == 0, tile, planes, none);
            continue;
          }
          for (int64_t t = t0; t < t1; ++t) {
            panel_tile(panels + (i * count + t - t0) * channels * kPanelTile, channels, w,
                       tiles.rows_of(t) * tiles.columns_of(t), tiles.position(t), b.size, i == 0 && t == t0, tile,
                       planes);
          }
        }
      }
    }
    for (int64_t k = 0; k < now * planes_out; ++k) emit.at(k)->finish();
  });
}

// Channels in the lanes where that wastes fewer of them than positions would.
static inline bool prefer_lanes(const PlaneLayout& layout, bool direct, int64_t group_out, int64_t h_out,
                                int64_t w_out) {
  if (kVec == 1 || group_out < kVec) return false;
  const double lanes = static_cast<double>(ceil_div(group_out, kVec) * kVec) / static_cast<double>(group_out);
  const int64_t positions = direct ? h_out * w_out : (h_out - 1) * layout.pitch + w_out;
  const double run = static_cast<double>(ceil_div(positions, kVec) * kVec) / static_cast<double>(h_out * w_out);
  return lanes <= run;
}

// Of the plain way's packed weights.
static uint64_t plain_weights_key(const ConvSet& set, const ForwardPlan& plan, const OutBlocks& out,
                                  const float* const* weight) {
  uint64_t key = mixed_key(kVec, out.lanes ? 1 : 0);
  for (int m = 0; m < set.branches; ++m) {
    const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel;
    key = weight_key(key, weight[m], set.branch[m].c_out * set.group_in() * k2);
    for (int64_t t = 0; t < plan.taps[m].count; ++t) key = mixed_key(key, static_cast<uint64_t>(plan.taps[m].index[t]));
  }
  return key;
}

// emitter(m, n, c) makes the object that takes an output plane (emit.h).
template <typename Emitter>
static void conv_forward_plain(const ConvSet& set, const float* x, const float* const* weight, Emitter&& emitter) {
  using Emit = decltype(emitter(0, int64_t{}, int64_t{}));
  const ConvShape& shape = set.branch[0];
  const int64_t hw_in = shape.h * shape.w, hw_out = shape.h_out * shape.w_out;
  const int64_t group_in = set.group_in(), group_out = set.group_out(), groups = shape.groups;
  const int64_t channels = set.channels();
  ForwardPlan plan;
  plan_forward(set.branch, set.branches, true, &plan);
  const PlaneLayout& layout = plan.layout;
  bool direct = layout.direct && hw_in >= kVec;
  const OutBlocks out{group_out, prefer_lanes(layout, direct, group_out, shape.h_out, shape.w_out)};
  if (out.lanes && shape.stride == 2) {  // these kernels can step over positions
    plan_forward(set.branch, set.branches, false, &plan);
    direct = layout.direct;
  }
  const int64_t blocks = out.count(), branch_blocks = groups * blocks;
  int64_t packed_at[kMaxBranches], packed_floats = 0;
  for (int m = 0; m < set.branches; ++m) {
    packed_at[m] = packed_floats;
    packed_floats += groups * out.padded() * group_in * plan.taps[m].count;
  }
  PackedWeights home{set.kept, 0, 0};
  if (set.kept != nullptr) home.key = plain_weights_key(set, plan, out, weight);
  bool stale;
  float* packed = home.get(packed_floats + 1, &stale);
  auto packed_block = [&](int m, int64_t group, ChannelBlock b) {
    return packed + packed_at[m] + (group * out.padded() + b.first) * group_in * plan.taps[m].count;
  };
  parallel(stale ? set.branches * branch_blocks : 0, [&](int64_t task, int) {
    const int m = static_cast<int>(task / branch_blocks);
    const int64_t group = task % branch_blocks / blocks;
    const ChannelBlock b = out.at(task % blocks);
    const int64_t k2 = set.branch[m].kernel * set.branch[m].kernel;
    const float* from = weight[m] + (group * group_out + b.first) * group_in * k2;
    float* to = packed_block(m, group, b);
    if (!out.lanes) {
      pack_weights(from, k2, group_in, plan.taps[m], b.size, to);
    } else if (b.size > kVec) {
      pack_lanes<2>(from, group_in * k2, k2, group_in, plan.taps[m].count, plan.taps[m].index, b.size, to);
    } else {
      pack_lanes<1>(from, group_in * k2, k2, group_in, plan.taps[m].count, plan.taps[m].index, b.size, to);
    }
  });

  const int64_t tile_size = max_of(tile_floats(layout.pitch), max_of(2 * kTileFloats + 16 * kVec, kLaneTileFloats));
  reserve_local(Local::kTile, tile_size);

  const bool flat = direct && layout.step == 1;
  const LaneTiles tiles(flat ? 1 : shape.h_out, flat ? hw_out : shape.w_out);
  auto lane_source = [&](int m, int64_t channel) {
    return LaneSource{layout.pitch * layout.step, layout.step, channel, plan.taps[m].count, plan.taps[m].offset};
  };
  auto run_block = [&](int m, int64_t n, int64_t group, ChannelBlock b, const float* planes, int64_t channel,
                       int worker, Coming& coming) {
    const TapSet& taps = plan.taps[m];
    EmitArray<Emit> emit;
    for (int64_t i = 0; i < b.size; ++i) emit.put(i, emitter(m, n, group * group_out + b.first + i));
    const float* w = packed_block(m, group, b);
    float* tile = local_scratch(Local::kTile, worker);
    if (out.lanes) {
      lane_planes(tiles, 0, tiles.count(), lane_source(m, channel), group_in, planes, w, b.size, true, tile, emit.at(0),
                  coming);
    } else if (direct) {
      tap_direct(taps, planes, channel, group_in, w, b.size, tile, emit.at(0), coming);
    } else {
      tap_rows(taps, layout.pitch, planes, channel, group_in, w, b.size, tile, emit.at(0), coming);
    }
    for (int64_t i = 0; i < b.size; ++i) emit.at(i)->finish();
  };

  if (!direct && set.by_group(layout.channel)) {
    reserve_local(Local::kPlanes, group_in * layout.channel);
    // Positions of a step of the inner loops, about, and their steps for a group.
    const int64_t run = out.lanes ? kLanePixels<2> : kVec * (out.at(0).size == 8 ? 3 : 6);
    const int64_t steps = set.branches * blocks * group_in * plan.taps[0].count * ceil_div(hw_out, run);
    parallel(shape.n * groups, [&](int64_t task, int worker) {
      const int64_t n = task / groups, group = task % groups;
      float* planes = local_scratch(Local::kPlanes, worker);
      // The inputs of the next group follow.
      Coming coming;
      if (!set.split && task + 1 < shape.n * groups) {
        const float* next = x + (n * channels + set.first_in(0, group) + group_in) * hw_in;
        coming = Coming::within(next, group_in * hw_in, steps);
      }
      for (int m = 0; m < set.branches; ++m) {
        if (m == 0 || set.split) {
          for (int64_t c = 0; c < group_in; ++c) {
            pad_plane(layout, x + (n * channels + set.first_in(m, group) + c) * hw_in, planes + c * layout.channel);
          }
        }
        for (int64_t i = 0; i < blocks; ++i) {
          run_block(m, n, group, out.at(i), planes, layout.channel, worker, coming);
        }
      }
    });
    return;
  }

  const int64_t image = direct ? channels * hw_in : channels * layout.channel;
  const int64_t chunk = direct ? shape.n : max_of(1, min_of(shape.n, kChunkFloats / image));
  float* padded = direct ? nullptr : shared_scratch(Shared::kPlanes, chunk * image);
  const int64_t per_image = set.branches * branch_blocks;
  for (int64_t n0 = 0; n0 < shape.n; n0 += chunk) {
    const int64_t now = min_of(chunk, shape.n - n0);
    if (!direct) {
      parallel(now * channels, [&](int64_t task, int) {
        pad_plane(layout, x + (n0 * channels + task) * hw_in, padded + task * layout.channel);
      });
    }
    const int64_t channel = direct ? hw_in : layout.channel;
    auto planes_of = [&](int m, int64_t i, int64_t group) {
      const int64_t first = set.first_in(m, group);
      return direct ? x + ((n0 + i) * channels + first) * hw_in : padded + (i * channels + first) * layout.channel;
    };
    if (out.lanes) {
      lane_convolution(
          tiles, now, set.branches * groups, out, group_in,
          [&](int64_t s) { return lane_source(static_cast<int>(s / groups), channel); },
          [&](int64_t s, int64_t i) { return planes_of(static_cast<int>(s / groups), i, s % groups); },
          [&](int64_t s, ChannelBlock b) { return packed_block(static_cast<int>(s / groups), s % groups, b); },
          [&](int64_t s, int64_t i, int64_t c) {
            return emitter(static_cast<int>(s / groups), n0 + i, s % groups * group_out + c);
          });
      continue;
    }
    // Large maps keep the image in cache and stream the weights, small ones the other way round.
    const bool image_first = hw_out >= 128;
    parallel(now * per_image, [&](int64_t task, int worker) {
      const int64_t i = image_first ? task / per_image : task % now;
      const int64_t rest = image_first ? task % per_image : task / now;
      const int m = static_cast<int>(rest / branch_blocks);
      const int64_t group = rest % branch_blocks / blocks;
      Coming none;
      run_block(m, n0 + i, group, out.at(rest % blocks), planes_of(m, i, group), channel, worker, none);
    });
  }
}

// One branch in Winograd's way. False if something was not finite.
template <typename Emitter>
static bool conv_forward_fast(const ConvSet& set, int m, const float* x, const float* weight, Emitter&& emitter) {
#if SKNET_VEC > 1
  const ConvShape& shape = set.branch[m];
  const int64_t group_in = set.group_in(), group_out = set.group_out(), hw = shape.h * shape.w;
  const ConvShape reduced = without_stride(shape);
  const PackedWeights home{set.kept, 1 + m,
                           set.kept == nullptr ? 0 : weight_key(kVec, weight, shape.c_out * group_in * 9)};
  const WinogradSource source{x + set.first_in(m, 0) * hw, set.channels() * hw, hw, shape.stride * shape.w,
                              shape.stride};
  auto pack = [&](auto lanes, int64_t group, int64_t first, int64_t c, int64_t count, float* to) {
    constexpr int64_t kLanes = decltype(lanes)::value;
    pack_lanes<kLanes / kVec>(weight + ((group * group_out + first) * group_in + c) * 9, group_in * 9, 9, count, 9,
                              nullptr, kLanes, to);
  };
  auto emit = [&](int64_t n, int64_t c) { return emitter(m, n, c); };
  return run_winograd(reduced, home, source, pack, emit);
#else
  (void)set, (void)m, (void)x, (void)weight, (void)emitter;
  return false;
#endif
}

#ifdef SKNET_AMX
// As conv_forward_fast, on tiles.
template <typename Emitter>
static bool conv_forward_tiles(const ConvSet& set, int m, const float* x, const float* weight, Emitter&& emitter) {
  const ConvShape& s = set.branch[m];
  const int64_t strip = strip_floats(s.c_in), hw = s.h * s.w;
  const uint64_t key = set.kept == nullptr ? 0 : mixed_key(weight_key(kVec, weight, s.c_out * s.c_in), kTileTerms);
  bool stale;
  float* strips = PackedWeights{set.kept, 1 + m, key}.get(ceil_div(s.c_out, kStrip) * strip, &stale);
  if (stale) put_weight_strips(weight, s.c_out, s.c_in, strips);
  return tile_convolution(
      {s.h_out, s.w_out, s.w, s.stride, hw}, s.n, s.c_in, s.c_out,
      [&](int64_t n) { return x + (n * set.channels() + set.first_in(m, 0)) * hw; },
      [&](int64_t block) { return strips + block * strip; }, [&](int64_t n, int64_t c) { return emitter(m, n, c); });
}

// The same for larger kernels.
template <typename Emitter>
static bool conv_forward_taps(const ConvSet& set, int m, const float* x, const float* weight, Emitter&& emitter) {
  const ConvShape& s = set.branch[m];
  const int64_t hw = s.h * s.w, k2 = s.kernel * s.kernel;
  ForwardPlan plan;
  plan_forward(&s, 1, true, &plan);
  const TileTaps taps{&plan.layout, plan.taps, 1, s.groups, set.group_in(), set.group_out()};
  uint64_t key = mixed_key(kVec, kTileTerms);
  if (set.kept != nullptr) key = weight_key(key, weight, s.c_out * set.group_in() * k2);
  for (int64_t t = 0; t < plan.taps->count; ++t) key = mixed_key(key, static_cast<uint64_t>(plan.taps->index[t]));
  bool stale;
  float* strips = PackedWeights{set.kept, 1 + kMaxBranches + m, key}.get(taps.weight_floats() + 1, &stale);
  if (stale) put_tap_strips(taps, weight, set.group_out() * set.group_in() * k2, set.group_in() * k2, k2, strips);
  return tile_taps(
      taps, s.n, strips, false,
      [&](int64_t n, int64_t c, int, float* to) {
        pad_plane(plan.layout, x + (n * set.channels() + set.first_in(m, 0) + c) * hw, to);
      },
      [&](int, int64_t n, int64_t c, int) { return emitter(m, n, c); });
}
#endif

// As conv_forward_plain.
template <typename Emitter>
static void conv_forward(const ConvSet& set, const float* x, const float* const* weight, Emitter&& emitter) {
  if (set.branch[0].n == 0) return;
  ConvShape shape[kMaxBranches];
  ConvSet rest(shape, 0, set.split, set.kept);
  rest.parts = set.parts;
  const float* rest_weight[kMaxBranches];
  int number[kMaxBranches];  // in the whole set
  for (int m = 0; m < set.branches; ++m) {
    ConvShape whole = set.branch[m];
    whole.n = images_of_call(whole.n);
#ifdef SKNET_AMX
    if (suits_tiles(whole) && conv_forward_tiles(set, m, x, weight[m], emitter)) continue;
#endif
    if (suits_winograd(without_stride(whole)) && conv_forward_fast(set, m, x, weight[m], emitter)) continue;
#ifdef SKNET_AMX
    if (suits_tile_taps(whole) && conv_forward_taps(set, m, x, weight[m], emitter)) continue;
#endif
    const int i = rest.branches++;
    shape[i] = set.branch[m], rest.part[i] = set.part[m], rest_weight[i] = weight[m], number[i] = m;
  }
  if (rest.branches == 0) return;
  conv_forward_plain(rest, x, rest_weight, [&](int i, int64_t n, int64_t c) { return emitter(number[i], n, c); });
}
