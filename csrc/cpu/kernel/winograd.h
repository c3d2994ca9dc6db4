// SPDX-License-Identifier: Apache-2.0
// Dense 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308):
// 16 products where the plain sum takes 36.
//
// A dilation d gives d * d interleaved plain convolutions; their tiles of outputs, 2 x 2 at distance d, start at rows
// and columns  (t / d) * 2 * d + t % d. The transforms hold halves and quarters only, so integers stay exact. Sums
// and differences of infinities would make NaN beyond a value's own reach: any output that is not finite is reported,
// and the caller computes everything again in the plain way.

struct Winograd {
  int64_t images, c_in, c_out, h, w, h_out, w_out, dilation, padding;
  int64_t source_pitch;             // floats between rows of the source
  int64_t tile_rows, tile_columns;  // of an image
  int64_t chunk_rows;               // tile rows that are worked on at a time
  static constexpr int64_t kLanes = 2 * kVec;

  int64_t chunks() const { return ceil_div(tile_rows, chunk_rows); }
  int64_t tiles() const { return chunk_rows * tile_columns; }  // of a chunk
  // Transformed inputs of a chunk are (16, c_in, tiles); a vector of slack behind each of the 16.
  int64_t input_step() const { return c_in * tiles() + kVec; }
  int64_t weight_step() const { return c_in * kLanes; }  // transformed weights of a block are (16, c_in, lanes)
  int64_t blocks() const { return c_out / kLanes; }
  int64_t start(int64_t tile) const { return tile / dilation * 2 * dilation + tile % dilation; }
  int64_t positions() const { return 2 * chunk_rows * w_out; }
};

inline constexpr int64_t kWinogradChannels = 1024;     // most outputs
inline constexpr int64_t kWinogradChunk = 112 * 1024;  // floats of transformed inputs: half of an L2 cache

static Winograd plan_winograd(const ConvShape& s) {
  Winograd w{s.n, s.c_in, s.c_out, s.h, s.w, s.h_out, s.w_out, s.dilation, s.padding, s.w, 0, 0, 0};
  w.tile_rows = ceil_div(s.h_out, 2 * s.dilation) * s.dilation;
  w.tile_columns = ceil_div(s.w_out, 2 * s.dilation) * s.dilation;
  const int64_t most = min_of(56, kWinogradChunk / (16 * s.c_in));  // tiles
  w.chunk_rows = min_of(w.tile_rows, s.dilation * max_of(1, most / (w.tile_columns * s.dilation)));
  return w;
}

// A 3x3 convolution of stride 1 over enough channels and positions to pay for the transforms: that of the weights
// costs like some 600 positions, and past some size they would be read from memory again and again.
static bool suits_winograd(const ConvShape& s) {
  if (kVec == 1) return false;
  if (s.kernel != 3 || s.stride != 1 || s.dilation > 4 || s.groups != 1 || s.padding > 2 * s.dilation) return false;
  if (s.c_in < 16 || s.c_out < 2 * Winograd::kLanes || s.c_out % Winograd::kLanes != 0) return false;
  if (s.c_in * s.c_out > 256 * 256 || s.c_out > kWinogradChannels) return false;
  const Winograd w = plan_winograd(s);
  return s.n * (9 * s.h_out * s.w_out - 16 * w.tile_rows * w.tile_columns) >= 600;
}

#if SKNET_VEC > 1
// packed (channels, 9, 2 vectors) -> to[f * step + c * 2 vectors], f < 16: G g G^T.
static void winograd_weights(const float* packed, int64_t channels, float* to, int64_t step) {
  const Vec half = broadcast(0.5f);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < Winograd::kLanes; i += kVec) {
      Vec rows[4][3];
      for (int k = 0; k < 3; ++k) {
        const float* g = packed + (c * 9 + k) * Winograd::kLanes + i;
        const Vec g0 = load(g), g1 = load(g + 3 * Winograd::kLanes), g2 = load(g + 6 * Winograd::kLanes);
        rows[0][k] = g0;
        rows[1][k] = half * (g0 + g1 + g2);
        rows[2][k] = half * (g0 - g1 + g2);
        rows[3][k] = g2;
      }
      float* out = to + c * Winograd::kLanes + i;
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

// B^T d in one dimension: put(f, term) for each of the four.
template <typename Put>
static inline void winograd_terms(Vec d0, Vec d1, Vec d2, Vec d3, Put&& put) {
  put(0, d0 - d2);
  put(1, d1 + d2);
  put(2, d2 - d1);
  put(3, d1 - d3);
}

// Where the tiles of one vector start, from the first of them on.
static inline VecIndex winograd_starts(int64_t dilation) {
  VecIndex index{};
  const int d = static_cast<int>(dilation);
  for (int t = 0; t < kVec; ++t) {
    index[t] = t / d * 2 * d + t % d;  // within two vectors
  }
  return index;
}

// Scratch of winograd_input: a padded row, and the column transforms of the rows of a chunk.
static int64_t winograd_row_floats(const Winograd& w) {
  return w.padding + max_of(w.w, w.start(w.tile_columns) + 3 * w.dilation) + 3 * kVec;
}
static int64_t winograd_columns_floats(const Winograd& w) {
  return (2 * w.chunk_rows + 2 * w.dilation) * 4 * (w.tile_columns + 2 * kVec);
}

// B^T d B of every tile of a chunk of one source plane, to v[f * input_step]. `row`: zeros, here and on return.
static void winograd_input(const Winograd& w, const float* plane, int64_t chunk, float* row, float* columns, float* v) {
  const int64_t width = w.tile_columns + 2 * kVec, d = w.dilation;
  const int64_t rows = 2 * w.chunk_rows + 2 * d, first = chunk * 2 * w.chunk_rows - w.padding;
  // A vector of tiles starts where a run of `dilation` tiles does, as the next one must too.
  const int64_t step = kVec / d * d;
  const VecIndex starts = winograd_starts(d);
  for (int64_t r = 0; r < rows; ++r) {
    float* out = columns + r * 4 * width;
    if (first + r < 0 || first + r >= w.h) {
      fill_zero(out, 4 * width);
      continue;
    }
    copy_row(plane + (first + r) * w.source_pitch, w.w, row + w.padding);
    for (int64_t t = 0; t < w.tile_columns; t += step) {
      const float* p = row + w.start(t);
      Vec x[4];
      for (int64_t b = 0; b < 4; ++b) x[b] = pick(p + b * d, starts);
      winograd_terms(x[0], x[1], x[2], x[3], [&](int f, Vec term) { store(out + f * width + t, term); });
    }
  }
  fill_zero(row + w.padding, w.w);
  const int64_t now = min_of(w.chunk_rows, w.tile_rows - chunk * w.chunk_rows), f_step = w.input_step();
  for (int64_t i = 0; i < now; ++i, v += w.tile_columns) {
    const float* from = columns + w.start(i) * 4 * width;
    for (int f = 0; f < 4; ++f, from += width) {
      for (int64_t t = 0; t < w.tile_columns; t += kVec) {
        const Vec x0 = load(from + t), x1 = load(from + 4 * d * width + t);
        const Vec x2 = load(from + 8 * d * width + t), x3 = load(from + 12 * d * width + t);
        float* to = v + f * f_step + t;
        winograd_terms(x0, x1, x2, x3, [&](int g, Vec term) { store(to + 4 * g * f_step, term); });
      }
    }
  }
}

// A^T m A of every tile of a chunk: m (16, tiles, 2 vectors) -> out (rows, w_out, 2 vectors). Adds zero times every
// output to `check`.
static void winograd_output(const Winograd& w, const float* m, int64_t tile_rows, int64_t rows, float* out,
                            Vec* check) {
  constexpr int64_t kLanes = Winograd::kLanes;
  const int64_t step = w.tiles() * kLanes, d = w.dilation;
  Vec zeros{};
  for (int64_t i = 0; i < tile_rows; ++i) {
    for (int64_t t = 0; t < w.tile_columns; ++t) {
      const int64_t row = w.start(i), column = w.start(t);
      if (row >= rows || column >= w.w_out) continue;
      const bool below = row + d < rows, right = column + d < w.w_out;
      for (int64_t lane = 0; lane < kLanes; lane += kVec) {
        const float* from = m + (i * w.tile_columns + t) * kLanes + lane;
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

// source(n, c) is a source plane; pack(first, c, channels, to) the weights of a block of output channels, as
// (channels, 9, 2 vectors), for source channels from c on; emitter(n, c) takes an output plane.
// False if an output is not finite: all is to be computed again.
template <typename Source, typename Pack, typename Emitter>
static bool winograd(const Winograd& w, const PackedWeights& home, Source&& source, Pack&& pack, Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}));
  constexpr int64_t kLanes = Winograd::kLanes, kSlice = 16;
  const int64_t slices = ceil_div(w.c_in, kSlice), block_floats = 16 * w.weight_step();
  bool stale;
  float* u = home.get(w.blocks() * block_floats, &stale);
  const int64_t m_floats = 16 * w.tiles() * kLanes, turned_pitch = ceil_div(w.positions(), kVec) * kVec;
  const int64_t row_floats = winograd_row_floats(w);
  reserve_local(Local::kTile, max_of(kSlice * 9 * kLanes, m_floats + 2 * turned_pitch * kLanes));
  reserve_local(Local::kPlanes, 16 * w.input_step() + kVec);
  reserve_local(Local::kRow, row_floats + winograd_columns_floats(w));

  parallel(stale ? w.blocks() * slices : 0, [&](int64_t task, int worker) {
    const int64_t block = task / slices, c = task % slices * kSlice, now = min_of(kSlice, w.c_in - c);
    float* packed = local_scratch(Local::kTile, worker);
    pack(block * kLanes, c, now, packed);
    winograd_weights(packed, now, u + block * block_floats + c * kLanes, w.weight_step());
  });

  // A task is an image, or a share of its output channels where there are few images; each transforms the inputs.
  int64_t shares = 1;
  while (shares < w.blocks() && w.images * shares < workers()) shares *= 2;
  shares = min_of(shares, w.blocks());
  int failed = 0;
  const int64_t none = 0;
  parallel(w.images * shares, [&](int64_t task, int worker) {
    const int64_t n = task / shares, share = task % shares;
    const int64_t first = share * w.blocks() / shares, last = (share + 1) * w.blocks() / shares;
    float* v = local_scratch(Local::kPlanes, worker);
    float* row = local_scratch(Local::kRow, worker);
    float* m = local_scratch(Local::kTile, worker);
    float *out = m + m_floats, *turned = out + turned_pitch * kLanes;
    EmitArray<Emit, kWinogradChannels> emit;
    for (int64_t c = first * kLanes; c < last * kLanes; ++c) emit.put(c, emitter(n, c));
    fill_zero(row, row_floats);
    Vec check{};
    for (int64_t chunk = 0; chunk < w.chunks(); ++chunk) {
      for (int64_t c = 0; c < w.c_in; ++c) {
        winograd_input(w, source(n, c), chunk, row, row + row_floats, v + c * w.tiles());
      }
      const int64_t tile_rows = min_of(w.chunk_rows, w.tile_rows - chunk * w.chunk_rows);
      const int64_t top = chunk * 2 * w.chunk_rows, rows = min_of(2 * w.chunk_rows, w.h_out - top);
      const LaneSource lanes{0, 1, w.tiles(), 1, &none};
      for (int64_t block = first; block < last; ++block) {
        for (int64_t f = 0; f < 16; ++f) {
          lane_rows<2>(lanes, w.c_in, v + f * w.input_step(), u + block * block_floats + f * w.weight_step(), 1,
                       tile_rows * w.tile_columns, m + f * w.tiles() * kLanes);
        }
        winograd_output(w, m, tile_rows, rows, out, &check);
        emit_lanes<2>(out, top * w.w_out, rows * w.w_out, kLanes, turned, turned_pitch, emit.at(block * kLanes));
      }
    }
    for (int64_t c = first * kLanes; c < last * kLanes; ++c) emit.at(c)->finish();
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
