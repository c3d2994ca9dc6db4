// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308):
// 16 products where the plain sum takes 36.
//
// A dilation d gives d * d interleaved plain convolutions; their tiles of outputs, 2 x 2 at distance d, start at rows
// and columns  (t / d) * 2 * d + t % d. Where stride and dilation are both 2, only every other row and column is read,
// and of these it is a plain convolution. The transforms hold halves and quarters only, so integers stay exact. Sums
// and differences of infinities would make NaN beyond a value's own reach: any output that is not finite is reported,
// and the caller computes everything again in the plain way.

// V: vectors of output channels that are worked on at a time, a block.
template <int V>
struct Winograd {
  static constexpr int kVectors = V;
  static constexpr int64_t kLanes = V * kVec;
  int64_t images, groups, c_in, c_out;  // channels: of a group
  int64_t h, w, h_out, w_out, dilation, padding;
  int64_t tile_rows, tile_columns;  // of an image
  int64_t chunk_rows;               // tile rows that are worked on at a time
  int64_t together;                 // images that are worked on at a time

  int64_t chunks() const { return ceil_div(tile_rows, chunk_rows); }
  int64_t image_tiles() const { return chunk_rows * tile_columns; }  // of an image in a chunk
  int64_t tiles() const { return together * image_tiles(); }         // of a chunk
  // Transformed inputs of a chunk are (16, c_in / kVec, tiles, kVec), products (16, tiles, lanes); a vector of slack
  // behind each of the 16.
  int64_t input_step() const { return c_in * tiles() + kVec; }
  int64_t product_step() const { return kLanes * tiles() + kVec; }
  int64_t weight_step() const { return c_in * kLanes; }  // transformed weights of a block are (16, c_in, lanes)
  int64_t blocks() const { return c_out / kLanes; }      // of a group
  int64_t start(int64_t tile) const { return tile / dilation * 2 * dilation + tile % dilation; }
  int64_t positions() const { return 2 * chunk_rows * w_out; }
  // Of `length` rows or columns of outputs, tiles that have both of theirs.
  int64_t whole(int64_t length) const {
    const int64_t last = (ceil_div(length, 2 * dilation) - 1) * dilation;  // first of the last that belong together
    return last + max_of(0, min_of(dilation, length - dilation - 2 * last));
  }
  // Of the source, padded: what the tiles of `rows` tile rows read.
  int64_t source_rows(int64_t rows) const { return start(rows - 1) + 3 * dilation + 1; }
  int64_t source_columns() const { return max_of(start(tile_columns - 1) + 3 * dilation + 1, padding + w); }
};

// Where the tiles of a chunk of some images lie among the terms of the 16 products. The last product in each direction
// serves only a tile's second row or column of outputs, and tiles at the edge may have none. Those that stick out on
// the right come first and those below last, so that what each product is wanted for is one run.
struct TileOrder {
  int64_t images, rows, columns;
  int64_t whole_rows, whole_columns;  // of tiles with both rows, both columns of outputs

  int64_t right() const { return images * whole_rows * (columns - whole_columns); }
  int64_t inside() const { return images * whole_rows * whole_columns; }
  int64_t below() const { return images * (rows - whole_rows) * whole_columns; }
  int64_t all() const { return images * rows * columns; }
  int64_t place(int64_t image, int64_t row, int64_t column) const {
    const bool under = row >= whole_rows, beside = column >= whole_columns;
    const int64_t high = under ? rows - whole_rows : whole_rows;
    const int64_t wide = beside ? columns - whole_columns : whole_columns;
    const int64_t first = under ? right() + inside() + (beside ? below() : 0) : beside ? 0 : right();
    if (under) row -= whole_rows;
    if (beside) column -= whole_columns;
    return first + (image * high + row) * wide + column;
  }
  struct Run {
    int64_t first, count;
  };
  Run wanted(int64_t f) const {
    const bool last_row = f / 4 == 3, last_column = f % 4 == 3;
    if (last_row) return last_column ? Run{right(), inside()} : Run{0, right() + inside()};
    return last_column ? Run{right(), inside() + below()} : Run{0, all()};
  }
};

inline constexpr int64_t kWinogradEmits = 1024;        // most output planes of a task
inline constexpr int64_t kWinogradChunk = 128 * 1024;  // floats of transformed inputs: half of an L2 cache

template <int V>
static Winograd<V> plan_winograd(const ConvShape& s) {
  Winograd<V> w{s.n,     s.groups, s.c_in / s.groups, s.c_out / s.groups, s.h, s.w,
                s.h_out, s.w_out,  s.dilation,        s.padding,          0,   0,
                0,       1};
  w.tile_rows = ceil_div(s.h_out, 2 * s.dilation) * s.dilation;
  w.tile_columns = ceil_div(s.w_out, 2 * s.dilation) * s.dilation;
  const int64_t room = kWinogradChunk / (16 * w.c_in), most = min_of(56, room);  // tiles
  w.chunk_rows = min_of(w.tile_rows, s.dilation * max_of(1, most / (w.tile_columns * s.dilation)));
  // Small maps share what is read of the weights, where these are too many for the second-level cache, or, a few of
  // them, for the first-level one.
  const int64_t weights = w.c_in * w.c_out;
  if (w.chunks() == 1 && weights >= 1024) {
    const int64_t tiles = weights >= 4096 ? room : room / 4;
    w.together = max_of(1, min_of(min_of(s.n, tiles / w.tiles()), kWinogradEmits / w.c_out));
  }
  return w;
}

// The same convolution over every other row and column, where it reads no others.
static ConvShape without_stride(const ConvShape& s) {
  ConvShape t = s;
  if (s.stride == 2 && s.dilation % 2 == 0 && s.padding % 2 == 0) {
    t.stride = 1, t.dilation /= 2, t.padding /= 2, t.h = ceil_div(s.h, 2), t.w = ceil_div(s.w, 2);
  }
  return t;
}

// A 3x3 convolution of stride 1 over enough channels and positions to pay for the transforms; that of the weights
// costs like some 600 positions.
static bool suits_winograd(const ConvShape& s) {
  if (kVec == 1) return false;
  if (s.kernel != 3 || s.stride != 1 || s.dilation > 4 || s.padding < 0 || s.padding > 2 * s.dilation) return false;
  const int64_t c_in = s.c_in / s.groups, c_out = s.c_out / s.groups;
  if (c_in < 16 || c_out < 16 || c_in % kVec != 0 || c_out % kVec != 0) return false;
  if (c_in * c_out > 512 * 512 || c_out > kWinogradEmits) return false;
  const Winograd<1> w = plan_winograd<1>(s);
  return s.n * (9 * s.h_out * s.w_out - 16 * w.tile_rows * w.tile_columns) >= 600;
}

#if SKNET_VEC > 1
// packed (channels, 9, lanes) -> to[f * step + c * lanes], f < 16: G g G^T.
template <int V>
static void winograd_weights(const float* packed, int64_t channels, float* to, int64_t step) {
  constexpr int64_t kLanes = V * kVec;
  const Vec half = broadcast(0.5f);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < kLanes; i += kVec) {
      Vec rows[4][3];
      for (int k = 0; k < 3; ++k) {
        const float* g = packed + (c * 9 + k) * kLanes + i;
        const Vec g0 = load(g), g1 = load(g + 3 * kLanes), g2 = load(g + 6 * kLanes);
        rows[0][k] = g0;
        rows[1][k] = half * (g0 + g1 + g2);
        rows[2][k] = half * (g0 - g1 + g2);
        rows[3][k] = g2;
      }
      float* out = to + c * kLanes + i;
      for (int r = 0; r < 4; ++r) {
        const Vec g0 = rows[r][0], g1 = rows[r][1], g2 = rows[r][2];
        store(out + (4 * r) * step, g0);
        store(out + (4 * r + 1) * step, half * (g0 + g1 + g2));
        store(out + (4 * r + 2) * step, half * (g0 - g1 + g2));
        store(out + (4 * r + 3) * step, g2);
      }
    }
  }
}

// Those of all groups and blocks, packed by pack() as for winograd() -> to (groups, blocks, 16, step); in each step
// (c_in, lanes) and what is left. Local::kTile has room for kWinogradSlice * 9 * lanes.
inline constexpr int64_t kWinogradSlice = 16;
template <int V, typename Pack>
static void put_winograd_weights(const Winograd<V>& w, int64_t step, Pack&& pack, float* to) {
  constexpr int64_t kLanes = V * kVec;
  const int64_t blocks = w.blocks(), slices = ceil_div(w.c_in, kWinogradSlice);
  parallel(w.groups * blocks * slices, [&](int64_t task, int worker) {
    const int64_t block = task / slices, c = task % slices * kWinogradSlice, now = min_of(kWinogradSlice, w.c_in - c);
    float* packed = local_scratch(Local::kTile, worker);
    pack(block / blocks, block % blocks * kLanes, c, now, packed);
    winograd_weights<V>(packed, now, to + block * 16 * step + c * kLanes, step);
  });
}

// Planes that a convolution reads.
struct WinogradSource {
  const float* at;
  int64_t image, plane, pitch;  // floats between images, planes, rows
  int64_t step;                 // between columns: 1 or 2
};

// A row of kVec planes, `columns` of it -> (columns, kVec). left: floats in the last plane from `from` on.
template <int Step>
static inline void row_channels_last(const float* from, int64_t plane, int64_t columns, int64_t left, float* to) {
  constexpr int64_t kAtOnce = 4 / Step;  // columns
  const int64_t many = min_of(ceil_div(columns, kAtOnce), left / 4) * kAtOnce;
  transpose_columns<Step>(from, plane, to, kVec, many);
  for (int64_t j = many; j < columns; ++j) {
    for (int64_t i = 0; i < kVec; ++i) to[j * kVec + i] = from[i * plane + j * Step];
  }
}

// kVec planes of (h, w), from `planes` on -> to[row * to_pitch + column] of kVec channels: rows from `first` on,
// columns from `left` on, zero outside. Needs room for a vector of columns behind the last row.
static void channels_last(const WinogradSource& s, const float* planes, int64_t h, int64_t w, int64_t first,
                          int64_t rows, int64_t left, int64_t to_pitch, float* to) {
  const int64_t length = (h - 1) * s.pitch + (w - 1) * s.step + 1;  // nothing past it may be read
  for (int64_t r = first; r < first + rows; ++r, to += to_pitch * kVec) {
    if (r < 0 || r >= h) {
      fill_zero(to, to_pitch * kVec);
      continue;
    }
    const int64_t at = r * s.pitch;
    fill_zero(to, left * kVec);
    // May write into the next row, whose turn comes later.
    if (s.step == 1) {
      row_channels_last<1>(planes + at, s.plane, w, length - at, to + left * kVec);
    } else {
      row_channels_last<2>(planes + at, s.plane, w, length - at, to + left * kVec);
    }
    fill_zero(to + (left + w) * kVec, (to_pitch - left - w) * kVec);
  }
}

// B^T d in one dimension: put(f, term) for each of the four.
template <typename Put>
static inline void winograd_terms(Vec d0, Vec d1, Vec d2, Vec d3, Put&& put) {
  put(0, d0 - d2);
  put(1, d1 + d2);
  put(2, d2 - d1);
  put(3, d1 - d3);
}

// B^T d B of every tile of `rows` tile rows of kVec channels: place(row, column)[f * f_step]. pitch: of `last`.
template <int V, typename Place>
static void winograd_input(const Winograd<V>& w, int64_t rows, const float* last, int64_t pitch, int64_t f_step,
                           Place&& place) {
  const int64_t d = w.dilation;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t t = 0; t < w.tile_columns; ++t) {
      float* to = place(i, t);
      const float* from = last + (w.start(i) * pitch + w.start(t)) * kVec;
      Vec terms[4][4];
#pragma GCC unroll 4
      for (int a = 0; a < 4; ++a) {
        const float* r = from + a * d * pitch * kVec;
        const Vec x0 = load(r), x1 = load(r + d * kVec), x2 = load(r + 2 * d * kVec), x3 = load(r + 3 * d * kVec);
        winograd_terms(x0, x1, x2, x3, [&](int f, Vec term) { terms[a][f] = term; });
      }
#pragma GCC unroll 4
      for (int f = 0; f < 4; ++f) {
        winograd_terms(terms[0][f], terms[1][f], terms[2][f], terms[3][f],
                       [&](int g, Vec term) { store(to + (4 * g + f) * f_step, term); });
      }
    }
  }
}

// A^T m A of every tile of a chunk of an image: m (16, tiles, lanes), a tile at place(row, column) -> out (rows, w_out,
// lanes). Adds zero times every output to `check`.
template <int V, typename Place>
static void winograd_output(const Winograd<V>& w, const float* m, int64_t tile_rows, int64_t rows, float* out,
                            Vec* check, Place&& place) {
  constexpr int64_t kLanes = V * kVec;
  const int64_t step = w.product_step(), d = w.dilation;
  Vec zeros{};
  for (int64_t i = 0; i < tile_rows; ++i) {
    for (int64_t t = 0; t < w.tile_columns; ++t) {
      const int64_t row = w.start(i), column = w.start(t);
      if (row >= rows || column >= w.w_out) continue;
      const bool below = row + d < rows, right = column + d < w.w_out;
      const int64_t at = place(i, t);
      for (int64_t lane = 0; lane < kLanes; lane += kVec) {
        const float* from = m + at * kLanes + lane;
        Vec top[4], bottom[4];
        for (int f = 0; f < 4; ++f) {
          const Vec x0 = load(from + f * step), x1 = load(from + (4 + f) * step);
          const Vec x2 = load(from + (8 + f) * step), x3 = load(from + (12 + f) * step);
          top[f] = x0 + x1 + x2;
          bottom[f] = x1 - x2 - x3;
        }
        auto put = [&](int64_t r, int64_t c, Vec v) {
          store(out + (r * w.w_out + c) * kLanes + lane, v);
          zeros += v * broadcast(0.0f);
        };
        put(row, column, top[0] + top[1] + top[2]);
        if (right) put(row, column + d, top[1] - top[2] - top[3]);
        if (below) put(row + d, column, bottom[0] + bottom[1] + bottom[2]);
        if (below && right) put(row + d, column + d, bottom[1] - bottom[2] - bottom[3]);
      }
    }
  }
  *check += zeros;
}

// A task is a few images of a group, or a share of their output channels where there are few; each transforms the
// inputs.
template <int V>
struct WinogradTasks {
  explicit WinogradTasks(const Winograd<V>& plan) : w(plan), batches(ceil_div(w.images, w.together)) {
    while (shares < w.blocks() && batches * w.groups * shares < workers()) shares *= 2;
    shares = min_of(shares, w.blocks());
  }
  struct Task {
    int64_t n0, images, group;
    int64_t first, last;  // blocks of output channels
    int64_t channels, first_channel;
  };
  int64_t count() const { return batches * w.groups * shares; }
  Task at(int64_t task) const {
    Task t{};
    t.n0 = task / (w.groups * shares) * w.together, t.images = min_of(w.together, w.images - t.n0);
    t.group = task / shares % w.groups;
    const int64_t share = task % shares;
    t.first = share * w.blocks() / shares, t.last = (share + 1) * w.blocks() / shares;
    t.channels = (t.last - t.first) * w.kLanes, t.first_channel = t.group * w.c_out + t.first * w.kLanes;
    return t;
  }

  const Winograd<V>& w;
  int64_t batches, shares = 1;
};

// pack(group, first, c, channels, to) packs the weights of a block of output channels of a group, from `first` on, as
// (channels, 9, lanes), for source channels from c on; emitter(n, c) takes an output plane.
// False if an output is not finite: all is to be computed again.
template <int V, typename Pack, typename Emitter>
static bool winograd(const Winograd<V>& w, const PackedWeights& home, const WinogradSource& source, Pack&& pack,
                     Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}));
  constexpr int64_t kLanes = V * kVec;
  const int64_t block_floats = 16 * w.weight_step(), blocks = w.blocks();
  const int64_t m_floats = 16 * w.product_step(), turned_pitch = ceil_div(w.positions(), kVec) * kVec;
  const int64_t source_rows = w.source_rows(w.chunk_rows), source_columns = w.source_columns();
  reserve_local(Local::kTile, max_of(kWinogradSlice * 9 * kLanes, m_floats + 2 * turned_pitch * kLanes));
  reserve_local(Local::kPlanes, 16 * w.input_step());
  reserve_local(Local::kRow, (source_rows * source_columns + kVec) * kVec);
  bool stale;  // after all that may fail: what is kept counts as filled
  float* u = home.get(w.groups * blocks * block_floats, &stale);

  if (stale) put_winograd_weights(w, w.weight_step(), pack, u);

  const WinogradTasks<V> tasks(w);
  int64_t lane[kVec];  // a vector of channels as the taps of one
  for (int i = 0; i < kVec; ++i) lane[i] = i;
  const LaneSource inputs{0, kVec, w.tiles() * kVec, kVec, lane};
  int failed = 0;
  parallel(tasks.count(), [&](int64_t task, int worker) {
    const auto [n0, now, group, first, last, channels, first_channel] = tasks.at(task);
    float* v = local_scratch(Local::kPlanes, worker);
    float* turned_source = local_scratch(Local::kRow, worker);
    float* m = local_scratch(Local::kTile, worker);
    float *out = m + m_floats, *turned = out + turned_pitch * kLanes;
    EmitArray<Emit, kWinogradEmits> emit;
    for (int64_t i = 0; i < now; ++i) {
      for (int64_t c = 0; c < channels; ++c) emit.put(i * channels + c, emitter(n0 + i, first_channel + c));
    }
    // The inputs of the next task, a line of them with each step of the last of the 16 products of a block: of the
    // others it is the weights that come.
    const bool more = task + 1 < tasks.count();
    const auto next = tasks.at(more ? task + 1 : task);
    auto next_inputs = [&](int64_t f, int64_t steps) {
      const int64_t floats = w.c_in * source.plane, products = min_of(16 / next.images, ceil_div(floats, steps * 16));
      const int64_t at = f - (16 - products * next.images);
      if (!more || products == 0 || at < 0 || (next.n0 == n0 && next.group == group)) return Coming{};
      const int64_t share = ceil_div(floats, products);
      const float* image = source.at + (next.n0 + at / products) * source.image + next.group * floats;
      return Coming::within(image + at % products * share, share, steps);
    };
    Vec check{};
    for (int64_t chunk = 0; chunk < w.chunks(); ++chunk) {
      const int64_t tile_rows = min_of(w.chunk_rows, w.tile_rows - chunk * w.chunk_rows);
      const int64_t top = chunk * 2 * w.chunk_rows, rows = min_of(2 * w.chunk_rows, w.h_out - top);
      const int64_t first_row = chunk * w.chunk_rows;
      const TileOrder order{now, tile_rows, w.tile_columns, max_of(0, min_of(tile_rows, w.whole(w.h_out) - first_row)),
                            w.whole(w.w_out)};
      for (int64_t i = 0; i < now; ++i) {
        for (int64_t c = 0; c < w.c_in; c += kVec) {
          const float* planes = source.at + (n0 + i) * source.image + (group * w.c_in + c) * source.plane;
          channels_last(source, planes, w.h, w.w, top - w.padding, w.source_rows(tile_rows), w.padding, source_columns,
                        turned_source);
          winograd_input(w, tile_rows, turned_source, source_columns, w.input_step(), [&](int64_t row, int64_t column) {
            return v + c * w.tiles() + order.place(i, row, column) * kVec;
          });
        }
      }
      for (int64_t block = first; block < last; ++block) {
        const float* weights = u + (group * blocks + block) * block_floats;
        const int64_t steps = w.c_in * ceil_div(order.all(), kMostColumns);
        for (int64_t f = 0; f < 16; ++f) {
          Coming coming = chunk + 1 == w.chunks() && block == first ? next_inputs(f, steps) : Coming{};
          const auto [at, count] = order.wanted(f);
          if (count == 0) continue;
          lane_rows<V>(inputs, w.c_in / kVec, v + f * w.input_step() + at * kVec, weights + f * w.weight_step(), 1,
                       count, m + f * w.product_step() + at * kLanes, chunk == 0, false, coming);
        }
        for (int64_t i = 0; i < now; ++i) {
          winograd_output(w, m, tile_rows, rows, out, &check,
                          [&](int64_t row, int64_t column) { return order.place(i, row, column); });
          emit_lanes<V>(out, top * w.w_out, rows * w.w_out, kLanes, turned, turned_pitch,
                        emit.at(i * channels + (block - first) * kLanes));
        }
      }
    }
    for (int64_t i = 0; i < now * channels; ++i) emit.at(i)->finish();
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
