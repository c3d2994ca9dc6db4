// SPDX-License-Identifier: Apache-2.0
// What becomes of finished outputs on their way from a tile in the first-level cache to their plane in memory.
//
// One object per plane. rows(at, rows, width, from, pitch) takes a run of rows, the first at position `at` of the
// plane, each exactly once, in order; finish() follows when all are there. Where kAnyOrder is true nothing is carried
// from run to run: several objects may share a plane (but see what EmitGradient holds back). writes() and reads() are
// planes that position `at` stands for in memory, or null: what is worth fetching ahead.

// step(i, v, n) for each vector v of a run, from its position i on; at the end of a row n < kVec, and past n v is zero.
template <typename Step>
static inline void each_vector(int64_t rows, int64_t width, const float* from, int64_t pitch, Step&& step) {
  if (pitch == width) width *= rows, rows = 1;
  for (int64_t i = 0; i < rows; ++i, from += pitch) {
    int64_t j = 0;
    for (; j + kVec <= width; j += kVec) step(i * width + j, load(from + j), kVec);
    if (j < width) step(i * width + j, load_part(from + j, width - j), width - j);
  }
}

// The raw results.
struct EmitRaw {
  static constexpr bool kAnyOrder = true;
  float* to;
  const float* writes() const { return to; }
  const float* reads() const { return nullptr; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) { store_some(to + at + i, v, n); });
  }
  void finish() {}
};

// The raw results, and their mean and spread.
struct EmitMoments {
  static constexpr bool kAnyOrder = false;
  float* to;
  Moments* slot;
  Moments sofar{0.0, 0.0};
  int64_t count = 0;
  const float* writes() const { return to; }
  const float* reads() const { return nullptr; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    Vec total{};
    each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) {
      store_some(to + at + i, v, n);
      total += v;
    });
    // Around a centre near the run's mean; what rounding the centre, and summing in float, left over is put right.
    const int64_t positions = rows * width;
    const double positions_d = static_cast<double>(positions);
    const float center = static_cast<float>(static_cast<double>(sum(total)) / positions_d);
    const Vec c = broadcast(center);
    Vec distance{}, square{};
    each_vector(rows, width, from, pitch, [&](int64_t, Vec v, int64_t n) {
      const Vec d = keep_some(v - c, n);
      distance += d;
      square += d * d;
    });
    const double rest = static_cast<double>(sum(distance)), shift = rest / positions_d;
    add({static_cast<double>(center) + shift, static_cast<double>(sum(square)) - rest * shift}, positions);
  }
  void add(const Moments& run, int64_t positions) {
    const double before = static_cast<double>(count), now = static_cast<double>(positions), all = before + now;
    const double d = run.mean - sofar.mean;
    if (count == 0) {
      sofar = run;
    } else {
      sofar.mean += d * (now / all);
      sofar.m2 += run.m2 + d * d * (before * now / all);
    }
    count += positions;
  }
  void finish() { *slot = sofar; }
};

// y = act((z - mean) * scale + beta [+ residual])
struct EmitAffine {
  static constexpr bool kAnyOrder = true;
  float* to;
  const float* residual;
  Affine affine;
  bool act;
  const float* writes() const { return to; }
  const float* reads() const { return residual; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) {
      v = apply(affine, v);
      if (residual != nullptr) v += load_some(residual + at + i, n);
      store_some(to + at + i, act ? relu(v) : v, n);
    });
  }
  void finish() {}
};

// u = act((z - mean) * scale + beta), and its sum.
struct EmitPooled {
  static constexpr bool kAnyOrder = false;
  float* to;
  Affine affine;
  bool act;
  float* slot;
  double total = 0.0;
  const float* writes() const { return to; }
  const float* reads() const { return nullptr; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    total +=
        static_cast<double>(act ? add<true>(at, rows, width, from, pitch) : add<false>(at, rows, width, from, pitch));
  }
  // In two chains: one would wait for every sum.
  template <bool kAct>
  float add(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    if (pitch == width) width *= rows, rows = 1;
    const Affine a = affine;
    auto value = [&a](Vec v) {
      v = apply(a, v);
      return kAct ? relu(v) : v;
    };
    Vec even{}, odd{};
    for (int64_t i = 0; i < rows; ++i, from += pitch) {
      float* out = to + at + i * width;
      int64_t j = 0;
      for (; j + 2 * kVec <= width; j += 2 * kVec) {
        const Vec v = value(load(from + j)), w = value(load(from + j + kVec));
        store(out + j, v), store(out + j + kVec, w);
        even += v, odd += w;
      }
      if (j + kVec <= width) {
        const Vec v = value(load(from + j));
        store(out + j, v);
        even += v, j += kVec;
      }
      if (j < width) {
        const Vec v = value(load_part(from + j, width - j));
        store_part(out + j, v, width - j);
        odd += keep_some(v, width - j);
      }
    }
    return sum(even + odd);
  }
  void finish() { *slot = static_cast<float>(total); }
};

// Room for the emitters of one task, which have no default.
template <typename Emit, int64_t kMost = (2 * kVec < 8 ? 8 : 2 * kVec)>
class EmitArray {
 public:
  void put(int64_t i, const Emit& emit) { new (at(i)) Emit(emit); }
  Emit* at(int64_t i) { return reinterpret_cast<Emit*>(room_) + i; }

 private:
  alignas(Emit) unsigned char room_[kMost * sizeof(Emit)];
};

// A tile (positions, V vectors) with channels in the lanes -> a run of each of `size` planes, to emit[0 .. size).
// turned: room for the planes' runs, at distance `step`. Tile and runs have room for whole vectors of positions.
template <int V, typename Emit>
static inline void emit_lanes(const float* tile, int64_t at, int64_t positions, int64_t size, float* turned,
                              int64_t step, Emit* emit) {
  constexpr int64_t kLanes = V * kVec;
  for (int64_t i = 0; i < kLanes; i += kVec) {
    for (int64_t p = 0; p < positions; p += kVec) {
      transpose(tile + p * kLanes + i, kLanes, turned + i * step + p, step);
    }
  }
  for (int64_t i = 0; i < size; ++i) emit[i].rows(at, 1, positions, turned + i * step, positions);
}
