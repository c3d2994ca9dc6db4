// SPDX-License-Identifier: Apache-2.0
// The weight gradient of a dense 3x3 convolution in Winograd's way: F(2x2, 3x3) turned round.
//
// Of the forward pass  Y = A^T [(G g G^T) * (B^T d B)] A  the gradient by g is
// G^T [sum over tiles of (A dY A^T) * (B^T d B)] G: 16 products a tile where the plain sum takes 36. Inputs and output
// gradients are turned to have channels side by side, and a tile is one term of the sum.

struct WinogradWeights {
  Winograd<2> w;       // of the forward pass
  int64_t images;      // at a time
  float* sums;         // (pieces, 16, blocks of output channels, c_in, 2 vectors)
  int64_t pieces = 1;  // of the terms, each with sums of its own
  int64_t tiles() const { return w.tile_rows * w.tile_columns; }  // of an image
  int64_t piece_floats() const { return 16 * w.c_in * w.c_out; }
  int64_t sum_floats() const { return pieces * piece_floats(); }
};

inline constexpr int64_t kWinogradWeightFloats = 2 << 20;  // transformed inputs and output gradients: 8 MB

// Whether the products are those of tiles.h: enough of them for each value that is split.
static inline bool winograd_weights_on_tiles(int64_t c_in, int64_t c_out) {
#ifdef SKNET_AMX
  return c_in % kStrip == 0 && c_in * c_out >= 64 * 128;
#else
  (void)c_in, (void)c_out;
  return false;
#endif
}

// Of few channels the sums stay in the second-level cache, and with them a piece's terms: as many pieces as this, so
// that the result does not depend on the number of workers.
inline constexpr int64_t kWinogradPieces = 16;
inline constexpr int64_t kWinogradPieceFloats = 128 * 1024;  // most sums of a piece
inline constexpr int64_t kWinogradPieceCache = 384 * 1024;   // of them and the terms at hand: of a cache of 2 MB

static WinogradWeights plan_winograd_weights(const ConvShape& s) {
  WinogradWeights p{plan_winograd<2>(s), 1, nullptr};
  const int64_t channels = s.c_in + s.c_out;
  if (winograd_weights_on_tiles(s.c_in, s.c_out) || p.piece_floats() > kWinogradPieceFloats) {
    p.images = max_of(1, min_of(s.n, kWinogradWeightFloats / (16 * p.tiles() * channels)));
    return p;
  }
  const int64_t row = 16 * channels * p.w.tile_columns * s.dilation;  // floats of as many tile rows as belong together
  const int64_t most = max_of(1, (kWinogradPieceCache - p.piece_floats()) / row) * s.dilation;
  p.w.chunk_rows = ceil_div(p.w.tile_rows, s.dilation * ceil_div(p.w.tile_rows, most)) * s.dilation;
  p.pieces = min_of(kWinogradPieces, s.n * p.w.chunks());
  return p;
}

static bool suits_winograd_weights(const ConvShape& s) {
  // Of more channels the sums are too much memory; tiles are fast enough for four times as much.
  const int64_t most = winograd_weights_on_tiles(s.c_in, s.c_out) ? 512 * 512 : 256 * 256;
  return s.groups == 1 && s.c_out % Winograd<2>::kLanes == 0 && s.c_in * s.c_out <= most && suits_winograd(s);
}

#if SKNET_VEC > 1
// A dY A^T of every tile of `tile_rows` tile rows of kVec channels: to[f * f_step + tile * step].
static void winograd_terms_of_dz(const WinogradWeights& p, int64_t tile_rows, const float* last, float* to,
                                 int64_t f_step, int64_t step) {
  const int64_t d = p.w.dilation, pitch = p.w.source_columns() * kVec;
  for (int64_t i = 0; i < tile_rows; ++i) {
    for (int64_t t = 0; t < p.w.tile_columns; ++t, to += step) {
      const float* from = last + p.w.start(i) * pitch + p.w.start(t) * kVec;
      Vec rows[2][4];
#pragma GCC unroll 2
      for (int a = 0; a < 2; ++a) {
        const Vec y0 = load(from + a * d * pitch), y1 = load(from + a * d * pitch + d * kVec);
        rows[a][0] = y0;
        rows[a][1] = y0 + y1;
        rows[a][2] = y0 - y1;
        rows[a][3] = -y1;
      }
#pragma GCC unroll 4
      for (int f = 0; f < 4; ++f) {
        store(to + f * f_step, rows[0][f]);
        store(to + (4 + f) * f_step, rows[0][f] + rows[1][f]);
        store(to + (8 + f) * f_step, rows[0][f] - rows[1][f]);
        store(to + (12 + f) * f_step, -rows[1][f]);
      }
    }
  }
}

#ifdef SKNET_AMX
// Rows t, t + 1 of two terms, zero past the last.
static inline void put_winograd_rows(const float* from, int64_t step, int64_t t, int64_t terms, float* to,
                                     int64_t part_step) {
  const Vec zero{};
  put_right(t < terms ? load(from + t * step) : zero, t + 1 < terms ? load(from + (t + 1) * step) : zero, to,
            part_step);
}

// The 16 products of v (16, terms, c_in) and d (16, blocks, terms, 2 vectors), as below, on tiles (tiles.h): input
// channels are rows, output channels columns, terms in pieces that make a partial sum each.
static void winograd_weight_tiles(const WinogradWeights& p, int64_t terms, const float* v, const float* d, bool add) {
  const Winograd<2>& w = p.w;
  const int64_t blocks = w.blocks(), piece = min_of(terms, kTileChain * kTileTerms), strip = strip_floats(piece);
  const int64_t shares = min_of(blocks, ceil_div(workers(), 16));
  reserve_local(Local::kTile, (w.c_in / kStrip + 1) * strip);
  parallel(16 * shares, [&](int64_t task, int worker) {
    const TileScope scope;
    const int64_t f = task / shares, share = task % shares;
    float* left = local_scratch(Local::kTile, worker);
    float* right = left + w.c_in / kStrip * strip;
    for (int64_t at = 0; at < terms; at += piece) {
      const int64_t now = min_of(piece, terms - at), steps = tile_steps(now);
      for (int64_t k = 0; k < steps; ++k) {
        for (int64_t c = 0; c < w.c_in; c += kTileSide) {
          alignas(64) float pairs[3 * kTileSize];  // of terms; turned, rows of a left operand
          for (int64_t i = 0; i < kTileSide; ++i) {
            put_winograd_rows(v + (f * terms + at) * w.c_in + c, w.c_in, k * kTileTerms + 2 * i, now,
                              pairs + i * kTileSide, kTileSize);
          }
          float* to = left + c / kStrip * strip + k * kStripFloats + c % kStrip / kTileSide * kTileSize;
          for (int64_t part = 0; part < 3; ++part) {
            transpose(pairs + part * kTileSize, kTileSide, to + part * kPartFloats, kTileSide);
          }
        }
      }
      for (int64_t block = share * blocks / shares; block < (share + 1) * blocks / shares; ++block) {
        const float* from = d + ((f * blocks + block) * terms + at) * kStrip;
        for (int64_t k = 0; k < steps; ++k) {
          for (int64_t i = 0; i < kTileSide; ++i) {
            for (int64_t j = 0; j < 2; ++j) {
              put_winograd_rows(from + j * kTileSide, kStrip, k * kTileTerms + 2 * i, now,
                                right + k * kStripFloats + j * kTileSize + i * kTileSide, kPartFloats);
            }
          }
        }
        for (int64_t c = 0; c < w.c_in; c += kStrip) {
          float* out = p.sums + ((f * blocks + block) * w.c_in + c) * kStrip;
          TileAhead ahead;  // of the next sums
          ahead.later = {out + kStrip * kStrip, kStrip, kStrip};
          ahead.later_rows = ceil_div(kStrip, steps);
          tile_product(kStrip, kStrip, left + c / kStrip * strip, ExactTiles{{right}}, steps, out, kStrip,
                       add || at > 0, ahead);
        }
      }
    }
  });
}
#endif

// As winograd_weights_add, a piece after the other: what is transformed is multiplied while it is in the cache.
static void winograd_weights_add_pieces(const WinogradWeights& p, int64_t images, bool first, const WinogradSource& x,
                                        const WinogradSource& dz) {
  constexpr int64_t kLanes = Winograd<2>::kLanes;
  const Winograd<2>& w = p.w;
  const int64_t columns = w.source_columns(), terms = w.image_tiles(), blocks = w.blocks();
  const int64_t v_step = terms * w.c_in + kVec, d_step = terms * w.c_out + kVec;  // not powers of two
  const int64_t all = images * w.chunks(), none = 0;
  const LaneSource source{0, 1, w.c_in, 1, &none};
  reserve_local(Local::kPlanes, (w.source_rows(w.chunk_rows) * columns + kVec) * kVec);
  reserve_local(Local::kPlanesB, 16 * (v_step + d_step));
  parallel(p.pieces, [&](int64_t piece, int worker) {
    float* last = local_scratch(Local::kPlanes, worker);
    float* v = local_scratch(Local::kPlanesB, worker);  // (16, terms, c_in)
    float* d = v + 16 * v_step;                         // (16, blocks, terms, 2 vectors)
    float* sums = p.sums + piece * p.piece_floats();
    const int64_t from = all * piece / p.pieces, to = all * (piece + 1) / p.pieces;
    if (first && from == to) fill_zero(sums, p.piece_floats());
    for (int64_t part = from; part < to; ++part) {
      const int64_t i = part / w.chunks(), chunk = part % w.chunks(), top = chunk * 2 * w.chunk_rows;
      const int64_t tile_rows = min_of(w.chunk_rows, w.tile_rows - chunk * w.chunk_rows);
      const int64_t rows = w.source_rows(tile_rows);
      for (int64_t c = 0; c < w.c_in; c += kVec) {
        channels_last(x, x.at + i * x.image + c * x.plane, w.h, w.w, top - w.padding, rows, w.padding, columns, last);
        winograd_input(w, tile_rows, last, columns, v_step,
                       [&](int64_t row, int64_t column) { return v + c + (row * w.tile_columns + column) * w.c_in; });
      }
      for (int64_t c = 0; c < w.c_out; c += kVec) {
        channels_last(dz, dz.at + i * dz.image + c * dz.plane, w.h_out, w.w_out, top, rows, 0, columns, last);
        winograd_terms_of_dz(p, tile_rows, last, d + c / kLanes * terms * kLanes + c % kLanes, d_step, kLanes);
      }
      for (int64_t f = 0; f < 16; ++f) {
        for (int64_t block = 0; block < blocks; ++block) {
          lane_rows<2>(source, tile_rows * w.tile_columns, v + f * v_step, d + f * d_step + block * terms * kLanes, 1,
                       w.c_in, sums + (f * blocks + block) * w.c_in * kLanes, false, !first || part > from);
        }
      }
    }
  });
}

// Adds `images` images of x and dz to the sums, which `first` starts.
static void winograd_weights_add(const WinogradWeights& p, int64_t images, bool first, const WinogradSource& x,
                                 const WinogradSource& dz) {
  if (p.pieces > 1) {
    return winograd_weights_add_pieces(p, images, first, x, dz);
  }
  constexpr int64_t kLanes = Winograd<2>::kLanes;
  const Winograd<2>& w = p.w;
  const int64_t rows = w.source_rows(w.tile_rows), columns = w.source_columns();
  const int64_t x_blocks = w.c_in / kVec, dz_blocks = w.c_out / kVec, blocks = w.blocks();
  reserve_local(Local::kPlanes, (rows * columns + kVec) * kVec);
  const int64_t none = 0;
  for (int64_t n0 = 0; n0 < images; n0 += p.images) {
    const int64_t now = min_of(p.images, images - n0), terms = now * p.tiles();
    float* v = shared_scratch(Shared::kTransformed, 16 * terms * (w.c_in + w.c_out));  // (16, terms, c_in)
    float* d = v + 16 * terms * w.c_in;                                                // (16, blocks, terms, 2 vectors)
    parallel(now * (x_blocks + dz_blocks), [&](int64_t task, int worker) {
      const int64_t i = task / (x_blocks + dz_blocks), b = task % (x_blocks + dz_blocks);
      float* last = local_scratch(Local::kPlanes, worker);
      if (b < x_blocks) {
        channels_last(x, x.at + (n0 + i) * x.image + b * kVec * x.plane, w.h, w.w, -w.padding, rows, w.padding, columns,
                      last);
        winograd_input(w, w.tile_rows, last, columns, terms * w.c_in, [&](int64_t row, int64_t column) {
          return v + (i * p.tiles() + row * w.tile_columns + column) * w.c_in + b * kVec;
        });
      } else {
        const int64_t c = (b - x_blocks) * kVec;
        channels_last(dz, dz.at + (n0 + i) * dz.image + c * dz.plane, w.h_out, w.w_out, 0, rows, 0, columns, last);
        winograd_terms_of_dz(p, w.tile_rows, last, d + (c / kLanes * terms + i * p.tiles()) * kLanes + c % kLanes,
                             terms * w.c_out, kLanes);
      }
    });
#ifdef SKNET_AMX
    if (winograd_weights_on_tiles(w.c_in, w.c_out)) {
      winograd_weight_tiles(p, terms, v, d, !first || n0 > 0);
      continue;
    }
#endif
    const LaneSource source{0, 1, w.c_in, 1, &none};
    parallel(16 * blocks, [&](int64_t task, int) {
      const int64_t f = task / blocks, block = task % blocks;
      lane_rows<2>(source, terms, v + f * terms * w.c_in, d + (f * blocks + block) * terms * kLanes, 1, w.c_in,
                   p.sums + (f * blocks + block) * w.c_in * kLanes, false, !first || n0 > 0);
    });
  }
}

// The sums -> dw (c_out, c_in, 9). False if something is not finite.
static bool winograd_weights_finish(const WinogradWeights& p, float* dw) {
  constexpr int64_t kLanes = Winograd<2>::kLanes;
  const Winograd<2>& w = p.w;
  const int64_t slices = w.c_in / kVec, step = w.blocks() * w.c_in * kLanes;
  const Vec half = broadcast(0.5f);
  auto total = [&](const float* at) {
    Vec v = load(at);
    for (int64_t i = 1; i < p.pieces; ++i) v += load(at + i * p.piece_floats());
    return v;
  };
  int failed = 0;
  reserve_local(Local::kTile, kVec * 9 * kLanes);
  parallel(w.blocks() * slices, [&](int64_t task, int worker) {
    const int64_t block = task / slices, c0 = task % slices * kVec;
    float* g = local_scratch(Local::kTile, worker);  // (kVec, 9, 2 vectors)
    Vec check{};
    for (int64_t c = 0; c < kVec; ++c) {
      for (int64_t lane = 0; lane < kLanes; lane += kVec) {
        const float* from = p.sums + (block * w.c_in + c0 + c) * kLanes + lane;
        Vec rows[3][4];
        for (int f = 0; f < 4; ++f) {
          const Vec x0 = total(from + f * step), x1 = total(from + (4 + f) * step);
          const Vec x2 = total(from + (8 + f) * step), x3 = total(from + (12 + f) * step);
          const Vec plus = half * (x1 + x2);
          rows[0][f] = x0 + plus;
          rows[1][f] = half * (x1 - x2);
          rows[2][f] = plus + x3;
        }
        for (int r = 0; r < 3; ++r) {
          const Vec plus = half * (rows[r][1] + rows[r][2]);
          const Vec out[3] = {rows[r][0] + plus, half * (rows[r][1] - rows[r][2]), plus + rows[r][3]};
          for (int k = 0; k < 3; ++k) {
            store(g + (c * 9 + r * 3 + k) * kLanes + lane, out[k]);
            check += out[k] * broadcast(0.0f);
          }
        }
      }
    }
    for (int64_t lane = 0; lane < kLanes; lane += kVec) {
      for (int64_t k = 0; k < 9 * kVec; k += kVec) {
        transpose(g + k * kLanes + lane, kLanes, dw + ((block * kLanes + lane) * w.c_in + c0) * 9 + k, w.c_in * 9);
      }
    }
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
