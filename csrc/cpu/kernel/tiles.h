// SPDX-License-Identifier: Apache-2.0
// float32 products on AMX tiles, which multiply bfloat16 and add in float32.
//
// A float is the exact sum of three bfloat16 of 8 bits each, x = x0 + x1 + x2 with |x1| < 2^-8 |x|, |x2| < 2^-16 |x|.
// Of the nine products of two such sums the six down to 2^-16 are taken; the other three are less than the rounding of
// one float32 product (Henry, Tang, Heinecke, arXiv 1904.06376). Six products on tiles take less than half the time of
// one with vectors.
//
// What differs from vectors: denormal parts and sums count as zero, and an infinity, or a float that rounds to one,
// has NaN for its other parts. A result that is not finite is therefore computed again with vectors; one that is has
// met no such value.

#ifdef SKNET_AMX
inline constexpr int64_t kTileTerms = 32;  // of a sum, in one instruction
inline constexpr int64_t kTileSide = 16;   // rows and columns of a tile
inline constexpr int64_t kTileSize = kTileSide * kTileSide;

// An operand comes in strips of 32 rows (of the left one) or columns (of the right one). For each 32 terms a strip
// holds three parts of two tiles each. In a tile of the left operand a row is 32 bfloat16; in one of the right operand
// it is two terms of 16 columns, the terms of a column side by side.
inline constexpr int64_t kStrip = 2 * kTileSide;
inline constexpr int64_t kPartFloats = 2 * kTileSize;
inline constexpr int64_t kStripFloats = 3 * kPartFloats;  // of 32 terms

static inline int64_t tile_steps(int64_t terms) { return ceil_div(terms, kTileTerms); }
static inline int64_t strip_floats(int64_t terms) { return tile_steps(terms) * kStripFloats; }

// Tiles are the thread's while this lives.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette, start_row, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    } config{};
    config.palette = 1;
    for (int i = 0; i < 8; ++i) config.row_bytes[i] = 64, config.rows[i] = kTileSide;
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  ~TileScope() { __asm__ volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// The compiler's own functions do not say that they read memory.
#define SKNET_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile::)
#define SKNET_TILE_LOAD(tile, from, bytes) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(from), "r"(bytes) : "memory")
#define SKNET_TILE_STORE(tile, to, bytes) \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(bytes) : "memory")
#define SKNET_TILE_PRODUCT(sum, left, right) __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum::)

// What a product brings nearer while it computes: of planes that its result will meet, one run of 32 positions each,
// and from memory to the second-level cache, 32 floats a row, what a later product needs.
// Passed by reference: a copy by vectors would wait for all stores of the product before.
struct TileAhead {
  PlaneRows planes[2];
  int64_t rows = 0;  // of each with every step
  PlaneRows later{};
  int64_t later_rows = 0;
  void step() {
    for (PlaneRows& p : planes) {
      const int64_t now = min_of(rows, p.rows);
      for (int64_t i = 0; i < now; ++i, p.at += p.step) {
        __builtin_prefetch(p.at);
        __builtin_prefetch(p.at + 16);
      }
      p.rows -= now;
    }
    const int64_t now = min_of(later_rows, later.rows);
    for (int64_t i = 0; i < now; ++i, later.at += later.step) {
      __builtin_prefetch(later.at, 0, 2);
      __builtin_prefetch(later.at + 16, 0, 2);
    }
    later.rows -= now;
  }
};

// Right operands, 32 terms after 32 terms. kStream: they come from far; kFresh: make(step, 0 .. 5) comes before a step
// is read. A strip:
struct StripTiles {
  static constexpr bool kStream = true, kFresh = false, kSmallFirst = false;
  static constexpr int64_t row_bytes = 64, beside = kTileSize;  // of a tile; floats to the tile of the next columns
  const float* strip;
  const float* at(int64_t step, int64_t part) const { return strip + step * kStripFloats + part * kPartFloats; }
  StripTiles from(int64_t step) const { return {strip + step * kStripFloats}; }
};
// kSmallFirst: the products of the largest parts are added after all others, which then are not rounded as the whole
// sum is. For few terms: the sum of many is made of partial ones, and these operands are still near when they are read
// again.
struct ExactTiles : StripTiles {
  static constexpr bool kSmallFirst = true;
  ExactTiles from(int64_t step) const { return {StripTiles::from(step)}; }
};
// Rows that lie apart, where each 32 terms begin at a place of their own: the taps of a convolution.
struct RowTiles {
  static constexpr bool kStream = false, kFresh = false, kSmallFirst = false;
  static constexpr int64_t beside = kTileSide;
  const float* rows;
  const int64_t* offset;  // floats, of every 32 terms
  int64_t part_step, row_bytes;
  const float* at(int64_t step, int64_t part) const { return rows + offset[step] + part * part_step; }
  RowTiles from(int64_t step) const { return {rows, offset + step, part_step, row_bytes}; }
};

// out[i * pitch + j] = sum over 32 * steps terms of left[i] * right[j], for I x J tiles.
template <int I, int J, typename Right>
static inline void tile_block(const float* left, const Right& right, int64_t steps, float* out, int64_t pitch,
                              TileAhead& ahead) {
  const int64_t bytes = pitch * 4, tile_row = 64, right_row = right.row_bytes;
  SKNET_TILE_ZERO(0);
  SKNET_TILE_ZERO(1);
  SKNET_TILE_ZERO(2);
  SKNET_TILE_ZERO(3);
  auto load_left = [&](int part) __attribute__((always_inline)) {
    SKNET_TILE_LOAD(4, left + part * kPartFloats, tile_row);
    if constexpr (I == 2) SKNET_TILE_LOAD(5, left + part * kPartFloats + kTileSize, tile_row);
  };
  auto load_right = [&](const float* from) __attribute__((always_inline)) {
    SKNET_TILE_LOAD(6, from, right_row);
    if constexpr (J == 2) SKNET_TILE_LOAD(7, from + Right::beside, right_row);
  };
  auto multiply = [&]() __attribute__((always_inline)) {
    SKNET_TILE_PRODUCT(0, 4, 6);
    if constexpr (J == 2) SKNET_TILE_PRODUCT(1, 4, 7);
    if constexpr (I == 2) SKNET_TILE_PRODUCT(2, 5, 6);
    if constexpr (I == 2 && J == 2) SKNET_TILE_PRODUCT(3, 5, 7);
  };
  if constexpr (Right::kFresh) {
    for (int sixth = 0; sixth < 6; ++sixth) right.make(0, sixth);
  }
  for (int64_t k = 0; k < steps; ++k, left += kStripFloats) {
    const float *r0 = right.at(k, 0), *r1 = right.at(k, 1), *r2 = right.at(k, 2);
    // The next step's lines, a sixth of them with each product: tile loads alone do not keep the second-level cache
    // busy.
    auto fetch = [&](int sixth) __attribute__((always_inline)) {
      constexpr int64_t kSixth = kStripFloats / 6, kLine = 16;
#pragma GCC unroll 16
      for (int64_t i = 0; i < kSixth; i += kLine) {
        if (I == 2 || sixth % 2 == 0) __builtin_prefetch(left + kStripFloats + sixth * kSixth + i);
        if (Right::kStream && (J == 2 || sixth % 2 == 0)) __builtin_prefetch(r0 + kStripFloats + sixth * kSixth + i);
      }
      if constexpr (Right::kFresh) {
        if (k + 1 < steps) right.make(k + 1, sixth);
      }
    };
    ahead.step();
    // In an order of few loads.
    load_left(0), load_right(r2), fetch(0), multiply();
    load_right(r1), fetch(1), multiply();
    load_left(1), fetch(2), multiply();
    load_right(r0), fetch(3), multiply();
    fetch(4);
    if constexpr (!Right::kSmallFirst) load_left(0), multiply();
    load_left(2), fetch(5), multiply();
  }
  if constexpr (Right::kSmallFirst) {
    left -= steps * kStripFloats;
    for (int64_t k = 0; k < steps; ++k, left += kStripFloats) load_left(0), load_right(right.at(k, 0)), multiply();
  }
  SKNET_TILE_STORE(0, out, bytes);
  if constexpr (J == 2) SKNET_TILE_STORE(1, out + kTileSide, bytes);
  if constexpr (I == 2) SKNET_TILE_STORE(2, out + kTileSide * pitch, bytes);
  if constexpr (I == 2 && J == 2) SKNET_TILE_STORE(3, out + kTileSide * pitch + kTileSide, bytes);
}

// The same, up to 2 x 2 tiles.
template <typename Right>
static inline void tile_block(bool tall, bool wide, const float* left, const Right& right, int64_t steps, float* out,
                              int64_t pitch, TileAhead& ahead) {
  if (tall) {
    wide ? tile_block<2, 2>(left, right, steps, out, pitch, ahead)
         : tile_block<2, 1>(left, right, steps, out, pitch, ahead);
  } else {
    wide ? tile_block<1, 2>(left, right, steps, out, pitch, ahead)
         : tile_block<1, 1>(left, right, steps, out, pitch, ahead);
  }
}

// Steps of a partial sum, as kChain of tap_block: there are six roundings in each.
inline constexpr int64_t kTileChain = 16;

// out (+)= the products of up to 32 rows and columns; out has room for whole tiles.
template <typename Right>
static __attribute__((noinline)) void tile_product(int64_t rows, int64_t columns, const float* left, const Right& right,
                                                   int64_t steps, float* out, int64_t pitch, bool add,
                                                   TileAhead& ahead) {
  const bool tall = rows > kTileSide, wide = columns > kTileSide;
  alignas(64) float part[kStrip * kStrip];
  for (int64_t first = 0; first < steps; first += kTileChain, add = true) {
    const int64_t now = min_of(kTileChain, steps - first);
    const float* from = left + first * kStripFloats;
    if (!add) {
      tile_block(tall, wide, from, right.from(first), now, out, pitch, ahead);
      continue;
    }
    tile_block(tall, wide, from, right.from(first), now, part, kStrip, ahead);
    for (int64_t i = 0; i < (tall ? kStrip : kTileSide); ++i) {
      for (int64_t j = 0; j < (wide ? kStrip : kTileSide); j += kVec) {
        store(out + i * pitch + j, load(out + i * pitch + j) + load(part + i * kStrip + j));
      }
    }
  }
}

template <typename Right>
static inline void tile_product(int64_t rows, int64_t columns, const float* left, const Right& right, int64_t steps,
                                float* out, int64_t pitch, bool add) {
  TileAhead none;
  tile_product(rows, columns, left, right, steps, out, pitch, add, none);
}

// The three parts of each float, in the upper half of 32 bits; the lower half is zero.
typedef uint32_t Bits __attribute__((vector_size(64)));
typedef uint16_t HalfBits __attribute__((vector_size(64)));
typedef Bits BitsUnaligned __attribute__((aligned(4), may_alias));
struct Parts {
  Bits part[3];
};
static inline __attribute__((always_inline)) Parts split(Vec x) {
  auto rounded = [](Vec v) { return (reinterpret_cast<Bits>(v) + 0x8000u) & 0xFFFF0000u; };
  Parts p;
  p.part[0] = rounded(x);
  const Vec rest = x - reinterpret_cast<Vec>(p.part[0]);
  p.part[1] = rounded(rest);
  p.part[2] = reinterpret_cast<Bits>(rest - reinterpret_cast<Vec>(p.part[1])) & 0xFFFF0000u;  // tiny ones have more
  return p;
}

// Two terms of 16 columns -> a row of each part's tile of a right operand.
static inline __attribute__((always_inline)) void put_right(Vec even, Vec odd, float* to,
                                                            int64_t part_step = kPartFloats) {
  const Parts e = split(even), o = split(odd);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    *reinterpret_cast<BitsUnaligned*>(to + i * part_step) = e.part[i] >> 16 | o.part[i];
  }
}

// 32 terms of a row -> a row of each part's tile of a left operand.
static inline __attribute__((always_inline)) void put_left(Vec first, Vec second, float* to) {
  const Parts a = split(first), b = split(second);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const HalfBits low = reinterpret_cast<HalfBits>(a.part[i]), high = reinterpret_cast<HalfBits>(b.part[i]);
    const HalfBits both = __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                  33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
    *reinterpret_cast<BitsUnaligned*>(to + i * kPartFloats) = reinterpret_cast<Bits>(both);
  }
}

// Rows [0, rows) of `terms` floats at distance `step` -> a strip of a left operand, the rest of it zero.
static void put_left_strip(const float* from, int64_t step, int64_t rows, int64_t terms, float* to) {
  for (int64_t k = 0; k < terms; k += kTileTerms, to += kStripFloats) {
    const int64_t first = min_of(kVec, terms - k), second = min_of(kVec, terms - k - first);
    for (int64_t i = 0; i < kStrip; ++i) {
      float* row = to + i / kTileSide * kTileSize + i % kTileSide * kTileSide;
      const float* at = from + i * step + k;
      const Vec low = i < rows ? load_some(at, first) : Vec{};
      put_left(low, i < rows && second > 0 ? load_some(at + kVec, second) : Vec{}, row);
    }
  }
}

// The same -> a strip of a right operand, whose columns they become.
static void put_turned_strip(const float* from, int64_t step, int64_t rows, int64_t terms, float* to) {
  alignas(64) float left[kStripFloats];
  for (int64_t k = 0; k < terms; k += kTileTerms, to += kStripFloats) {
    put_left_strip(from + k, step, rows, min_of(kTileTerms, terms - k), left);
    for (int64_t i = 0; i < kStripFloats; i += kTileSize) transpose(left + i, kTileSide, to + i, kTileSide);
  }
}
#endif
